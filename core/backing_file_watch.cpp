// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/backing_file_watch.hpp"

#include <sys/inotify.h>

#include <cerrno>
#include <string>

#include "core/error.hpp"
#include "core/inotify_events.hpp"

namespace loop {
namespace {

// Unlinking changes the link count (ATTRIB), truncating and growing modify. What
// the loop driver itself writes makes no event.
constexpr uint32_t changes = IN_ATTRIB | IN_MODIFY | IN_MOVE_SELF;

}  // namespace

BackingFileWatch::BackingFileWatch() : inotify_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
  if (!inotify_) throw Error(Errc::failed, errno, "cannot watch backing files");
}

void BackingFileWatch::watch(unsigned number, int file) {
  // The magic link, not the path: what was identified is what is watched.
  const std::string link = "/proc/self/fd/" + std::to_string(file);
  const std::lock_guard lock(mutex_);
  const int watch = file < 0 ? -1 : ::inotify_add_watch(inotify_.get(), link.c_str(), changes);
  const auto known = watches_.find(number);
  if (known != watches_.end() && known->second == watch) return;
  forget_locked(number);
  if (watch < 0) return;
  watches_[number] = watch;
  devices_[watch].insert(number);
}

void BackingFileWatch::forget(unsigned number) {
  const std::lock_guard lock(mutex_);
  forget_locked(number);
}

void BackingFileWatch::forget_locked(unsigned number) {
  const auto known = watches_.find(number);
  if (known == watches_.end()) return;
  const int watch = known->second;
  watches_.erase(known);
  std::set<unsigned>& sharing = devices_[watch];
  sharing.erase(number);
  if (!sharing.empty()) return;
  devices_.erase(watch);
  ::inotify_rm_watch(inotify_.get(), watch);
}

std::set<unsigned> BackingFileWatch::take_changed() {
  std::set<unsigned> changed;
  const std::lock_guard lock(mutex_);
  each_inotify_event(inotify_.get(), [&](const inotify_event& event) {
    if ((event.mask & IN_Q_OVERFLOW) != 0) {
      for (const auto& [number, watch] : watches_) changed.insert(number);
    }
    const auto devices = devices_.find(event.wd);
    if (devices != devices_.end()) changed.insert(devices->second.begin(), devices->second.end());
  });
  return changed;
}

}  // namespace loop
