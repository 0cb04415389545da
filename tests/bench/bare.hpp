// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the kernel costs alone: the ioctls in the order in which losetup makes them,
// and nothing around them.
#pragma once

namespace loopd_bench {

// All throw std::system_error.
unsigned bare_attach(int file);
void bare_detach(unsigned number);
void bare_delete_node(unsigned number);

}  // namespace loopd_bench
