// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <mutex>
#include <set>

#include "core/unique_fd.hpp"

namespace loop {

// Notices that backing files are unlinked, renamed, truncated or grown by
// others: inotify on the files themselves. A file on a network file system that another machine changes is
// not noticed. watch() may be called from any thread.
class BackingFileWatch {
 public:
  // Throws Error failed.
  BackingFileWatch();

  int fd() const { return inotify_.get(); }  // readable after a change

  // Watches the file of device `number`, in place of another one. `file` is open, also as a path; -1: none is
  // to be watched.
  void watch(unsigned number, int file);
  void forget(unsigned number);

  // The devices whose files have changed since the last call.
  std::set<unsigned> take_changed();

 private:
  void forget_locked(unsigned number);

  UniqueFd inotify_;
  std::mutex mutex_;
  std::map<int, std::set<unsigned>> devices_;  // by watch: devices can share a file
  std::map<unsigned, int> watches_;
};

}  // namespace loop
