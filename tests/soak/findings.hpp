// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <mutex>
#include <string>
#include <vector>

namespace soak {

// What went wrong, found by any thread.
class Findings {
 public:
  void add(std::string what) {
    const std::lock_guard lock(mutex_);
    ++count_;
    if (first_.size() < most_kept) first_.push_back(std::move(what));
  }
  unsigned count() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  bool empty() const { return count() == 0; }
  std::vector<std::string> first() const {
    const std::lock_guard lock(mutex_);
    return first_;
  }

 private:
  static constexpr size_t most_kept = 20;
  mutable std::mutex mutex_;
  unsigned count_ = 0;
  std::vector<std::string> first_;
};

}  // namespace soak
