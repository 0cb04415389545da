// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "dbus/one_shot.hpp"
#include "dbus/scheduler.hpp"
#include "dbus/task.hpp"

namespace loopd {

// One operation at a time for each key (a loop number, a backing file), first
// come, first served. Different keys do not wait for each other. Event loop's
// thread only.
template <typename Key>
class KeyedLocks {
 public:
  class Lock {
   public:
    Lock() = default;
    Lock(KeyedLocks& locks, Key key) : locks_(&locks), key_(key) {}
    Lock(Lock&& other) noexcept : locks_(std::exchange(other.locks_, nullptr)), key_(other.key_) {}
    Lock& operator=(Lock&& other) noexcept {
      std::swap(locks_, other.locks_);
      std::swap(key_, other.key_);
      return *this;
    }
    ~Lock() { release(); }

    void release() {
      if (KeyedLocks* locks = std::exchange(locks_, nullptr)) locks->pass_on(key_);
    }

   private:
    KeyedLocks* locks_ = nullptr;
    Key key_{};
  };

  explicit KeyedLocks(Scheduler& scheduler) : scheduler_(scheduler) {}

  // Nothing: another one has it.
  std::optional<Lock> acquire_at_once(Key key) {
    if (!held_.try_emplace(key).second) return std::nullopt;
    return Lock(*this, key);
  }

  Task<Lock> acquire(Key key) {
    const auto [held, free] = held_.try_emplace(key);
    if (!free) {
      OneShot<bool> turn;
      const auto alive = std::make_shared<char>();
      held->second.push_back({turn.sender(), alive});
      co_await turn;
    }
    co_return Lock(*this, key);
  }

 private:
  // Waiters stay in the queue when their coroutine is destroyed; those are
  // passed over.
  struct Waiter {
    OneShot<bool>::Sender wake;
    std::weak_ptr<void> alive;
  };

  void pass_on(const Key& key) {
    const auto held = held_.find(key);
    while (!held->second.empty()) {
      const Waiter next = held->second.front();
      held->second.pop_front();
      if (next.alive.expired()) continue;
      // Not from within the destructor of the one who had it.
      scheduler_.post([wake = next.wake] { wake.deliver(true); });
      return;
    }
    held_.erase(held);
  }

  Scheduler& scheduler_;
  std::map<Key, std::deque<Waiter>> held_;  // an entry: the key is locked
};

using NumberLocks = KeyedLocks<unsigned>;

}  // namespace loopd
