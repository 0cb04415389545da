// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/file_helpers.hpp"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
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
    : direct_(direct),
      program_(std::move(program)),
      patience_(patience),
      ends_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!ends_) throw Error(Errc::failed, errno, "epoll_create1");
}

std::unique_ptr<KernelWay> FileHelpers::way(bool served_locally, uid_t uid) {
  return std::make_unique<KernelWay>(direct_, served_locally ? nullptr : start(uid));
}

std::unique_ptr<HelperKernel> FileHelpers::start(uid_t uid) {
  const Place place = take_place(uid);
  try {
    auto kernel = std::make_unique<HelperKernel>(direct_.kernel(), program_, patience_);
    watch(place, kernel->take_process());
    return kernel;
  } catch (...) {
    give_back(place);
    throw;
  }
}

// To start a process takes a millisecond, which nobody else is to wait for.
FileHelpers::Place FileHelpers::take_place(uid_t uid) {
  std::unique_lock lock(mutex_);
  forget_ended_locked();
  if (is_full(uid)) let_one_end(lock, uid);
  if (is_full(uid)) {
    throw Error(Errc::limits_exceeded, "file: too many calls wait for file systems that do not answer");
  }
  return running_.insert(running_.end(), {uid, nullptr});
}

// Without a process: it has ended already, and its kernel's first call will say so.
void FileHelpers::watch(Place place, UniqueFd process) {
  if (!process) return give_back(place);
  auto shared = std::make_shared<const UniqueFd>(std::move(process));
  epoll_event event{};
  event.events = EPOLLIN;
  if (::epoll_ctl(ends_.get(), EPOLL_CTL_ADD, shared->get(), &event) < 0) {
    throw Error(Errc::failed, errno, "cannot watch a helper process");
  }
  const std::lock_guard lock(mutex_);
  place->process = std::move(shared);
}

void FileHelpers::give_back(Place place) {
  const std::lock_guard lock(mutex_);
  running_.erase(place);
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
    if (!one.process || (one.uid != uid && running_.size() < most_in_all)) continue;
    processes.push_back(one.process);
    ends.push_back({one.process->get(), POLLIN, 0});
  }
  lock.unlock();
  ::poll(ends.data(), ends.size(), static_cast<int>(end_patience.count()));
  lock.lock();
  forget_ended_locked();
}

void FileHelpers::forget_ended() {
  const std::lock_guard lock(mutex_);
  forget_ended_locked();
}

void FileHelpers::forget_ended_locked() {
  for (auto one = running_.begin(); one != running_.end();) {
    if (!has_ended(*one)) {
      ++one;
      continue;
    }
    // Who waits in let_one_end() keeps the descriptor, of which nobody is to hear any more.
    ::epoll_ctl(ends_.get(), EPOLL_CTL_DEL, one->process->get(), nullptr);
    one = running_.erase(one);
  }
}

bool FileHelpers::has_ended(const Running& one) {
  if (!one.process) return false;
  pollfd end{one.process->get(), POLLIN, 0};
  return ::poll(&end, 1, 0) != 0;
}

}  // namespace loop
