// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "dbus/object_registry.hpp"
#include "dbus/task_group.hpp"
#include "service/event_loop.hpp"
#include "service/peer_server.hpp"
#include "service/system_bus.hpp"

namespace loopd {

// From being ready to the end of the process: how long the service stays, how it
// leaves without losing a call, and what the service manager hears of it. Event
// loop's thread only.
class Lifecycle {
 public:
  // All borrowed.
  struct Parts {
    EventLoop& events;
    TaskGroup& calls;  // of clients
    TaskGroup& looks;  // at devices
    const ObjectRegistry& registry;
    SystemBus& bus;
    PeerServer& peers;
  };

  // Without a timeout the service stays until it is stopped.
  Lifecycle(Parts parts, std::optional<std::chrono::microseconds> idle_timeout);

  // To be called when requests are served, but those that ask for udev's links.
  void started();

  // To be called when those are, too.
  void links_are_known();

  // To be called when the bus has settled: there is nothing to wait for any more.
  void bus_has_settled();

  // Answers what has come, and ends. Later calls do nothing.
  void stop(const std::string& reason);

  // An error that leaves nothing to do: ends at once.
  void fail();

 private:
  void work_has_ended();
  void trim_memory_when_quiet();
  bool is_idle() const;
  bool holds_a_promise() const;
  void watch_idleness(Clock::time_point when);
  void leave();
  void end_if_done();
  void tell_status();

  Parts parts_;
  std::optional<std::chrono::microseconds> idle_timeout_;
  Clock::time_point idle_since_;
  std::unique_ptr<Scheduler::Registration> idle_timer_;
  std::unique_ptr<Scheduler::Registration> trim_timer_;
  std::unique_ptr<Scheduler::Registration> status_timer_;
  std::string status_;
  bool calls_wait_for_links_ = false;
  bool leaving_ = false;
  bool idle_exit_ = false;
  bool name_released_ = false;
  std::unique_ptr<Scheduler::Registration> leave_timer_;
};

}  // namespace loopd
