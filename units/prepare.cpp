// SPDX-License-Identifier: LGPL-2.1-or-later
//
// loopd-prepare: before loopd starts, with full privileges and in the host's mount
// namespace (ExecStartPre=+), puts into the service's descriptor store what it could not
// get itself: the host's root directory, and a file system for nodes of its own.
#include <fcntl.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/node_directory.hpp"
#include "core/unique_fd.hpp"

namespace {

// 0, or -errno, having said what failed.
int store(const char* name, const loop::UniqueFd& fd) {
  const std::string named = std::string("FDNAME=") + name;
  // What the process before it had, which is still there when it is restarted.
  sd_notify(0, ("FDSTOREREMOVE=1\n" + named).c_str());
  const int stored = fd.get();
  const int sent = sd_pid_notify_with_fds(0, 0, ("FDSTORE=1\n" + named).c_str(), &stored, 1);
  if (sent > 0) return 0;
  std::fprintf(stderr, "loopd-prepare: cannot store '%s': %s\n", name,
               sent < 0 ? std::strerror(-sent) : "no service manager listens");
  return sent < 0 ? sent : -ENOTCONN;
}

}  // namespace

int main() {
  // By way of the first process: "/" of this one may be another mount. Readable, as
  // systemd 252 stores no O_PATH descriptors.
  const loop::UniqueFd root(::open("/proc/1/root", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) {
    std::fprintf(stderr, "loopd-prepare: cannot open /proc/1/root: %s\n", std::strerror(errno));
    return EXIT_FAILURE;
  }
  if (store("hostroot", root) < 0) return EXIT_FAILURE;
  // The service does without where there are none.
  const loop::UniqueFd nodes = loop::make_node_directory(loop::Nodes::prepared);
  if (nodes) store("nodes", nodes);
  return EXIT_SUCCESS;
}
