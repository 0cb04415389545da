// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "core/unique_fd.hpp"

namespace loop {

// Wakes up when the host's mount table or the list of swap
// areas has changed: /proc tells by poll.
class MountChanges {
 public:
  // Throws Error failed.
  MountChanges();

  int fd() const { return epoll_.get(); }  // readable after a change, until drained
  void drain();

 private:
  UniqueFd mounts_;
  UniqueFd swaps_;
  UniqueFd epoll_;
};

}  // namespace loop
