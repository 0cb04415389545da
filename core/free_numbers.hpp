// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <mutex>
#include <optional>
#include <set>
#include <utility>

namespace loop {

// The numbers that have a node and no file attached, as far as is known. LOOP_CTL_GET_FREE looks at every
// device there is, which takes half a millisecond with thousands of them. This is a hint alone: whether a
// number is free shows when a file is bound to it. Callable from any thread.
class FreeNumbers {
 public:
  void note(unsigned number, bool is_free) {
    const std::lock_guard lock(mutex_);
    if (is_free) {
      numbers_.insert(number);
    } else {
      numbers_.erase(number);
    }
  }

  void replace(std::set<unsigned> numbers) {
    const std::lock_guard lock(mutex_);
    numbers_ = std::move(numbers);
  }

  // The lowest, as the kernel offers it; nobody else gets it then. Nothing: none is known.
  std::optional<unsigned> take() {
    const std::lock_guard lock(mutex_);
    if (numbers_.empty()) return std::nullopt;
    return numbers_.extract(numbers_.begin()).value();
  }

 private:
  std::mutex mutex_;
  std::set<unsigned> numbers_;
};

}  // namespace loop
