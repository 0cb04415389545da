// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <deque>
#include <map>
#include <memory>

#include "dbus/one_shot.hpp"
#include "dbus/scheduler.hpp"
#include "dbus/task.hpp"

namespace loopd {

// One operation at a time on each loop number, first come, first served.
// Different numbers do not wait for each other. Event loop's thread only.
class NumberLocks {
 public:
  class Lock {
   public:
    Lock() = default;
    Lock(NumberLocks& locks, unsigned number) : locks_(&locks), number_(number) {}
    Lock(Lock&& other) noexcept : locks_(std::exchange(other.locks_, nullptr)), number_(other.number_) {}
    Lock& operator=(Lock&& other) noexcept {
      std::swap(locks_, other.locks_);
      std::swap(number_, other.number_);
      return *this;
    }
    ~Lock() { release(); }
    void release();

   private:
    NumberLocks* locks_ = nullptr;
    unsigned number_ = 0;
  };

  explicit NumberLocks(Scheduler& scheduler) : scheduler_(scheduler) {}

  Task<Lock> acquire(unsigned number);

 private:
  // Waiters stay in the queue when their coroutine is destroyed; waking one of
  // those passes the lock on.
  struct Waiter {
    OneShot<bool>::Sender wake;
    std::weak_ptr<void> alive;
  };

  void pass_on(unsigned number);

  Scheduler& scheduler_;
  std::map<unsigned, std::deque<Waiter>> held_;  // an entry: the number is locked
};

}  // namespace loopd
