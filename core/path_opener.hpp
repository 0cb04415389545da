// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

#include "core/unique_fd.hpp"

namespace loop {

// Opens backing files that are named by path, below a root directory of its
// own: the host's (host_root.hpp), or another.
class PathOpener {
 public:
  explicit PathOpener(UniqueFd root = {});

  // Opens an absolute path without following a symbolic link in its last
  // component, and no magic links (/proc/PID/fd) anywhere. Never blocks on a
  // pipe. Throws Error file_not_found, invalid_argument (relative, a link, a
  // directory where a file is needed), not_writable, failed.
  UniqueFd open(const std::string& path, bool read_only) const;

  // Whether opening it needs no answer from a server that might not give one: the
  // kernel has the whole path at hand, and serves the file system itself.
  bool is_served_locally(const std::string& path) const;

  int root() const { return root_.get(); }

  // Looks only: the descriptor is O_PATH.
  UniqueFd look_up(const std::string& path) const;

 private:
  UniqueFd open_beneath(const std::string& path, int flags) const;

  UniqueFd root_;
};

}  // namespace loop
