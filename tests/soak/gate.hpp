// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <condition_variable>
#include <mutex>

namespace soak {

// Where the clients stand still, each with its device attached, while somebody
// compares what there is with what was promised.
class Gate {
 public:
  explicit Gate(unsigned clients) : clients_(clients) {}

  // Of a client: waits while the gate is shut.
  void pass() {
    std::unique_lock lock(mutex_);
    if (!shut_) return;
    ++standing_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !shut_; });
    --standing_;
  }

  // Of a client that will not come again.
  void leave() {
    const std::lock_guard lock(mutex_);
    --clients_;
    changed_.notify_all();
  }

  // Shuts the gate, and waits until everybody stands there.
  void shut() {
    std::unique_lock lock(mutex_);
    shut_ = true;
    changed_.wait(lock, [this] { return standing_ == clients_; });
  }

  void open() {
    const std::lock_guard lock(mutex_);
    shut_ = false;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned clients_;
  unsigned standing_ = 0;
  bool shut_ = false;
};

}  // namespace soak
