// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/loop_control.hpp"

#include <cerrno>

#include "core/error.hpp"

namespace loop {

std::unique_ptr<LoopControl> open_loop_control(LoopKernel& kernel) {
  std::unique_ptr<LoopControl> control;
  const int r = kernel.open_control(control);
  if (r >= 0) return control;
  if (r == -ENOENT || r == -ENODEV || r == -ENXIO) {
    throw Error(Errc::not_supported, -r,
                "this system has no loop driver: /dev/loop-control is missing; load the module 'loop' "
                "or use a kernel with CONFIG_BLK_DEV_LOOP");
  }
  throw Error(Errc::failed, -r, "cannot open /dev/loop-control");
}

}  // namespace loop
