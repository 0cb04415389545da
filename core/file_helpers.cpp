// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/file_helpers.hpp"

#include <poll.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/error.hpp"

namespace loop {
namespace {

constexpr std::chrono::milliseconds end_patience{250};

}  // namespace

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
  std::unique_lock lock(mutex_);
  forget_ended();
  if (is_full(uid)) let_one_end(lock, uid);
  if (is_full(uid)) {
    throw Error(Errc::limits_exceeded, "file: too many calls wait for file systems that do not answer");
  }
  auto kernel = std::make_unique<HelperKernel>(direct_.kernel(), program_, patience_);
  running_.push_back({uid, std::make_shared<const UniqueFd>(kernel->take_process())});
  return kernel;
}

bool FileHelpers::is_full(uid_t uid) const {
  const auto of_user =
      std::count_if(running_.begin(), running_.end(), [uid](const Running& one) { return one.uid == uid; });
  return static_cast<size_t>(of_user) >= most_per_user || running_.size() >= most_in_all;
}

// One whose work is done needs a moment to be gone, on a busy machine a long one. Who makes one
// call after another is not to be refused for that.
void FileHelpers::let_one_end(std::unique_lock<std::mutex>& lock, uid_t uid) {
  std::vector<std::shared_ptr<const UniqueFd>> processes;
  std::vector<pollfd> ends;
  for (const Running& one : running_) {
    if (one.uid != uid && running_.size() < most_in_all) continue;
    processes.push_back(one.process);
    ends.push_back({one.process->get(), POLLIN, 0});
  }
  lock.unlock();
  ::poll(ends.data(), ends.size(), static_cast<int>(end_patience.count()));
  lock.lock();
  forget_ended();
}

void FileHelpers::forget_ended() {
  running_.remove_if([](const Running& one) {
    pollfd ended{one.process->get(), POLLIN, 0};
    return !*one.process || ::poll(&ended, 1, 0) != 0;
  });
}

}  // namespace loop
