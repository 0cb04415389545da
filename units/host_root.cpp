// SPDX-License-Identifier: LGPL-2.1-or-later
//
// loopd-host-root: before loopd starts, with full privileges and in the host's
// mount namespace (ExecStartPre=+), puts the host's root directory into the
// service's descriptor store.
#include <fcntl.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

int main() {
  // By way of the first process: "/" of this one may be another mount. Readable, as
  // systemd 252 stores no O_PATH descriptors.
  const int root = ::open("/proc/1/root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) {
    std::fprintf(stderr, "loopd-host-root: cannot open /proc/1/root: %s\n", std::strerror(errno));
    return EXIT_FAILURE;
  }
  const int sent = sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDNAME=hostroot", &root, 1);
  if (sent <= 0) {
    std::fprintf(stderr, "loopd-host-root: cannot store the host's root: %s\n",
                 sent < 0 ? std::strerror(-sent) : "no service manager listens");
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
