// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/node_watch.hpp"

#include <sys/inotify.h>

#include <cerrno>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/inotify_events.hpp"

namespace loop {

NodeWatch::NodeWatch() : inotify_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
  if (!inotify_) throw Error(Errc::failed, errno, "cannot watch device nodes");
}

void NodeWatch::watch(unsigned number) {
  const std::string path = "/dev/" + kernel_name(number);
  const int watch = ::inotify_add_watch(inotify_.get(), path.c_str(), IN_CLOSE_WRITE);
  const auto known = watches_.find(number);
  if (known != watches_.end() && known->second == watch) return;
  forget(number);
  if (watch < 0) return;
  watches_[number] = watch;
  numbers_[watch] = number;
}

void NodeWatch::forget(unsigned number) {
  const auto known = watches_.find(number);
  if (known == watches_.end()) return;
  // Fails where the node is gone, and its watch with it.
  ::inotify_rm_watch(inotify_.get(), known->second);
  numbers_.erase(known->second);
  watches_.erase(known);
}

std::set<unsigned> NodeWatch::take_written() {
  std::set<unsigned> written;
  each_inotify_event(inotify_.get(), [&](const inotify_event& event) {
    if ((event.mask & IN_Q_OVERFLOW) != 0) {
      for (const auto& [number, watch] : watches_) written.insert(number);
    }
    const auto found = numbers_.find(event.wd);
    if (found != numbers_.end() && (event.mask & IN_CLOSE_WRITE) != 0) written.insert(found->second);
  });
  return written;
}

}  // namespace loop
