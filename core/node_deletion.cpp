// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/node_deletion.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/loop_control.hpp"
#include "core/loop_kernel.hpp"

namespace loop {

bool wait_for_use_change(UseWatch& watch, Deadline deadline) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  if (left.count() <= 0) return false;
  pollfd poll_fd{watch.fd(), POLLIN, 0};
  const int ready = ::poll(&poll_fd, 1, static_cast<int>(std::min<int64_t>(left.count() + 1, 60'000)));
  watch.drain();
  return ready != 0;
}

void delete_node(LoopKernel& kernel, unsigned number, Deadline deadline) {
  // Bounded in number as well: a process that opens and closes the node in a
  // circle must not keep this thread.
  constexpr int attempts = 1000;
  const auto control = open_loop_control(kernel);
  std::unique_ptr<UseWatch> watch;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const int r = control->remove(number);
    if (r >= 0 || r == -ENODEV) return;
    if (r != -EBUSY) {
      throw Error(Errc::failed, -r, "LOOP_CTL_REMOVE of loop" + std::to_string(number));
    }
    if (kernel.has_attribute(number, "loop")) return;  // attached by somebody else
    if (!watch) {
      // Watch first, then try again: a close in between would be missed.
      if (kernel.watch_use(number, watch) < 0) continue;  // the node is just vanishing
      continue;
    }
    if (!wait_for_use_change(*watch, deadline)) break;
  }
  throw Error(
      Errc::device_busy,
      kernel_name(number) + ": the file is detached, but the node is held open and cannot be deleted");
}

}  // namespace loop
