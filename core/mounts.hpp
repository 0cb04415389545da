// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace loop {

struct Mount {
  int id = 0;
  std::string type;  // of the file system: "ext4", "fuse.sshfs"…
  dev_t dev = 0;     // of the file system; anonymous for btrfs
  std::string mount_point;
  std::string source;  // as given to mount(2): often a device path
};

// The host's mounts (host_root.hpp).
std::shared_ptr<const std::vector<Mount>> mounts();

// \040 and its like, as /proc writes spaces, tabs, newlines and backslashes.
std::string undo_octal_escapes(std::string_view text);

}  // namespace loop
