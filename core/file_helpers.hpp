// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <chrono>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/helper_kernel.hpp"
#include "core/loop_manager.hpp"
#include "core/unique_fd.hpp"

namespace loop {

// How one operation reaches the kernel: directly, or by way of a helper process of
// its own. The file's server can be waited for in `kernel()` and `manager()` alike;
// the helper is left alone at the end.
class KernelWay {
 public:
  // Null: directly. `direct` is borrowed.
  KernelWay(LoopManager& direct, std::unique_ptr<HelperKernel> helper);
  KernelWay(const KernelWay&) = delete;
  KernelWay& operator=(const KernelWay&) = delete;

  LoopKernel& kernel() { return manager().kernel(); }
  LoopManager& manager() { return by_helper_ ? *by_helper_ : direct_; }

 private:
  LoopManager& direct_;
  std::unique_ptr<HelperKernel> helper_;
  std::optional<LoopManager> by_helper_;
};

// Starts helper processes, and bounds how many there are: one that waits for a
// file system's server stays until that answers. Thread-safe.
class FileHelpers {
 public:
  // `direct` must outlive every way.
  FileHelpers(LoopManager& direct, std::string program, std::chrono::milliseconds patience);

  // For one operation of this user on one file. By a helper, which takes a
  // millisecond to start, unless the kernel alone serves the file. Throws Error
  // limits_exceeded, failed. For a thread that may wait a moment.
  std::unique_ptr<KernelWay> way(bool served_locally, uid_t uid);

  // Readable when a helper has ended and is still remembered; borrowed.
  int ended_fd() const { return ends_.get(); }
  void forget_ended();

 private:
  static constexpr size_t most_per_user = 8;
  static constexpr size_t most_in_all = 64;

  struct Running {
    uid_t uid;
    std::shared_ptr<const UniqueFd> process;  // null: not yet started
  };
  using Place = std::list<Running>::iterator;

  std::unique_ptr<HelperKernel> start(uid_t uid);
  bool is_full(uid_t uid) const;
  void let_one_end(std::unique_lock<std::mutex>& lock, uid_t uid);
  Place take_place(uid_t uid);
  void watch(Place place, UniqueFd process);
  void give_back(Place place);
  void forget_ended_locked();
  static bool has_ended(const Running& one);

  LoopManager& direct_;
  std::string program_;
  std::chrono::milliseconds patience_;
  UniqueFd ends_;     // epoll: the processes
  std::mutex mutex_;  // never held while anything is waited for: the event loop's thread takes it
  std::list<Running> running_;
};

}  // namespace loop
