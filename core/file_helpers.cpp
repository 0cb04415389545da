// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/file_helpers.hpp"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "core/error.hpp"

namespace loop {

KernelWay::KernelWay(LoopManager& direct, std::unique_ptr<HelperKernel> helper)
    : direct_(direct), helper_(std::move(helper)) {
  if (helper_) by_helper_.emplace(direct_, *helper_);
}

FileHelpers::FileHelpers(LoopManager& direct, std::string program, std::chrono::milliseconds patience)
    : direct_(direct), program_(std::move(program)), patience_(patience) {}

std::unique_ptr<KernelWay> FileHelpers::way(bool served_locally, uid_t uid) {
  return std::make_unique<KernelWay>(direct_, served_locally ? nullptr : start(uid));
}

std::unique_ptr<HelperKernel> FileHelpers::start(uid_t uid) {
  const std::lock_guard lock(mutex_);
  forget_ended();
  const auto of_user = static_cast<size_t>(
      std::count_if(running_.begin(), running_.end(), [uid](const Running& one) { return one.uid == uid; }));
  if (of_user >= most_per_user || running_.size() >= most_in_all) {
    throw Error(Errc::limits_exceeded, "file: too many calls wait for file systems that do not answer");
  }
  auto kernel = std::make_unique<HelperKernel>(direct_.kernel(), program_, patience_);
  running_.push_back({uid, kernel->take_process()});
  return kernel;
}

void FileHelpers::forget_ended() {
  running_.remove_if([](const Running& one) {
    pollfd ended{one.process.get(), POLLIN, 0};
    return !one.process || ::poll(&ended, 1, 0) != 0;
  });
}

}  // namespace loop
