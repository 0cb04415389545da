// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>

#include "core/loop_kernel.hpp"

namespace loop {

// Opens /dev/loop-control. Throws Error not_supported, saying what is missing,
// where there is no loop driver.
std::unique_ptr<LoopControl> open_loop_control(LoopKernel& kernel);

}  // namespace loop
