// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/attach_request.hpp"
#include "core/mounts.hpp"

namespace loop {

// Whether the kernel alone serves a file: no server in user space or on the
// network that might never answer. Asks the kernel alone, and is false where it
// can't be told. File systems are known by name (mountinfo).
bool is_served_locally(int fd);

// The same for a path as the kernel reports it, by the mount point that it lies
// below. For want of a descriptor: a path of another mount namespace is taken for
// one of this.
bool is_path_served_locally(const std::string& path);

// is_served_locally(), remembered for each file system: finding out means reading
// the mount table. One thread at a time.
class FileLocality {
 public:
  bool is_served_locally(int fd, const FileIdentity& file);

 private:
  std::shared_ptr<const std::vector<Mount>> mounts_;  // that known_ was found out with
  std::map<dev_t, bool> known_;
};

}  // namespace loop
