// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/mount_changes.hpp"

#include <fcntl.h>
#include <sys/epoll.h>

#include <array>
#include <cerrno>

#include "core/error.hpp"
#include "core/host_root.hpp"

namespace loop {

MountChanges::MountChanges()
    : mounts_(::open(host_mount_table().c_str(), O_RDONLY | O_CLOEXEC)),
      swaps_(::open("/proc/swaps", O_RDONLY | O_CLOEXEC)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_) throw Error(Errc::failed, errno, "cannot follow mounts");
  // A system without one of the two has no such change.
  for (const UniqueFd* fd : {&mounts_, &swaps_}) {
    epoll_event event{};
    event.events = EPOLLPRI | EPOLLET;
    if (*fd) ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd->get(), &event);
  }
}

void MountChanges::drain() {
  std::array<epoll_event, 2> ready;
  ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), 0);
}

}  // namespace loop
