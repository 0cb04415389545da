// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace loop {

// Paths of the active swap areas (/proc/swaps), octal escapes undone.
std::vector<std::string> active_swaps();

// Whether this file (by file system and inode) or block device (by number) is
// being swapped to.
bool is_active_swap(bool block_device, dev_t dev, ino_t inode, dev_t rdev);

}  // namespace loop
