// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <chrono>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "core/helper_kernel.hpp"
#include "core/unique_fd.hpp"

namespace loop {

// Starts helper processes, and bounds how many there are: one that waits for a
// file system's server stays until that answers. Thread-safe.
class FileHelpers {
 public:
  // `local` must outlive every helper.
  FileHelpers(LoopKernel& local, std::string program, std::chrono::milliseconds patience);

  // For one operation of this user. Takes a millisecond. Throws Error
  // limits_exceeded, failed.
  std::unique_ptr<HelperKernel> start(uid_t uid);

 private:
  static constexpr size_t most_per_user = 8;
  static constexpr size_t most_in_all = 64;

  struct Running {
    uid_t uid;
    UniqueFd process;
  };

  void forget_ended();

  LoopKernel& local_;
  std::string program_;
  std::chrono::milliseconds patience_;
  std::mutex mutex_;
  std::list<Running> running_;
};

}  // namespace loop
