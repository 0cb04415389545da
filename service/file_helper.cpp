// SPDX-License-Identifier: LGPL-2.1-or-later
//
// loopd-file-helper: does for loopd what may wait for a file system's server for
// ever. Started by it, with a socket as standard input, for one operation each.
#include <signal.h>
#include <unistd.h>

#include <cstdlib>

#include "core/helper_server.hpp"
#include "core/host_root.hpp"
#include "core/loop_kernel.hpp"

int main() {
  ::signal(SIGPIPE, SIG_IGN);
  loop::use_host_root(loop::UniqueFd(loop::helper_host_root_fd));
  const auto kernel = loop::make_linux_loop_kernel();
  loop::serve_helper(STDIN_FILENO, *kernel);
  return EXIT_SUCCESS;
}
