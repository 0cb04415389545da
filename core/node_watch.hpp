// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <set>

#include "core/unique_fd.hpp"

namespace loop {

// Notices that somebody who had a device open for writing has closed it: inotify
// on the node. udev says so, too, but is blind while it is at work on the device
// itself, and is not everywhere. One thread at a time.
class NodeWatch {
 public:
  // Throws Error failed.
  NodeWatch();

  int fd() const { return inotify_.get(); }  // readable after a close

  // Watches the node that has the name now. Where it is watched already, this does
  // nothing.
  void watch(unsigned number);
  void forget(unsigned number);

  // The devices that were closed since the last call.
  std::set<unsigned> take_written();

 private:
  UniqueFd inotify_;
  std::map<int, unsigned> numbers_;  // by watch
  std::map<unsigned, int> watches_;
};

}  // namespace loop
