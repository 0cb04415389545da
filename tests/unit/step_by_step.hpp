// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "dbus/scheduler.hpp"

namespace loopd {

// One piece of work after the other, on this thread, when the test says so. Timers end when
// it says so, all of them, whatever the clock says.
class StepByStep final : public Scheduler {
 public:
  void post(std::function<void()> work) override { work_.push_back(std::move(work)); }

  void submit(WorkLane, std::function<void()> work) override {
    if (std::exchange(hold_next_, false)) {
      held_ = std::move(work);
      return;
    }
    work_.push_back([this, work = std::move(work)] {
      work();
      if (const auto act = std::exchange(after_work_, nullptr)) act();
    });
  }

  std::unique_ptr<Registration> at(Clock::time_point, std::function<void()> work) override {
    timers_.emplace(++last_timer_, std::move(work));
    return std::make_unique<Timer>(*this, last_timer_);
  }

  std::unique_ptr<Registration> on_readable(int, std::function<void()>) override { return nullptr; }

  // Once, behind the back of who had it done.
  void after_next_work(std::function<void()> act) { after_work_ = std::move(act); }
  void after_work(unsigned pieces, std::function<void()> act) {
    after_next_work([this, pieces, act = std::move(act)] {
      if (pieces > 1) return after_work(pieces - 1, act);
      act();
    });
  }

  // What a worker would begin next waits for one.
  void hold_next_work() { hold_next_ = true; }
  void begin_held_work() { std::exchange(held_, nullptr)(); }

  void let_timers_end() {
    for (const auto& [id, work] : std::exchange(timers_, {})) work();
  }

  void run() {
    while (!work_.empty()) {
      const auto next = std::move(work_.front());
      work_.pop_front();
      next();
    }
  }

 private:
  class Timer final : public Registration {
   public:
    Timer(StepByStep& scheduler, unsigned id) : scheduler_(scheduler), id_(id) {}
    ~Timer() override { scheduler_.timers_.erase(id_); }

   private:
    StepByStep& scheduler_;
    unsigned id_;
  };

  std::deque<std::function<void()>> work_;
  std::function<void()> after_work_;
  std::function<void()> held_;
  bool hold_next_ = false;
  std::map<unsigned, std::function<void()>> timers_;
  unsigned last_timer_ = 0;
};

}  // namespace loopd
