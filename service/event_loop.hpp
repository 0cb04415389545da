// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <systemd/sd-event.h>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/unique_fd.hpp"
#include "dbus/scheduler.hpp"
#include "service/worker_pool.hpp"

namespace loopd {

// sd-event and the workers, as the Scheduler that the other layers know. Nothing
// throws across its C callbacks: an exception that leaves a callback is a defect
// and ends the service, to be started again with nothing lost.
class EventLoop final : public Scheduler {
 public:
  EventLoop();
  ~EventLoop() override;

  sd_event* handle() { return event_; }

  // Returns the code given to exit().
  int run();
  void exit(int code);

  // Where the service manager watches over the process: tells it that the loop
  // turns, the one reason to wake up without work.
  void feed_watchdog();

  // The signals must be blocked in every thread; this blocks them in this one.
  void on_signal(int signal, std::function<void()> work);

  // To be called when nothing is submitted any more and what the work refers to
  // still lives. False: a worker is still at something at the deadline.
  bool end_workers(Clock::time_point deadline) { return workers_->end(deadline); }

  void post(std::function<void()> work) override;
  void submit(WorkLane lane, std::function<void()> work) override;
  std::unique_ptr<Registration> at(Clock::time_point when, std::function<void()> work) override;
  std::unique_ptr<Registration> on_readable(int fd, std::function<void()> work) override;

 private:
  struct Source;

  void run_posted();
  void wake();

  sd_event* event_ = nullptr;
  loop::UniqueFd wake_;  // eventfd: something was posted
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
  bool awake_ = false;  // woken, or to look at posted_ once more before it sleeps
  std::vector<std::unique_ptr<Registration>> permanent_;
  std::unique_ptr<WorkerPool> workers_;
};

}  // namespace loopd
