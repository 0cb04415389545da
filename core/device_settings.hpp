// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Changing an attached device. `disk_sequence` says which attachment is meant,
// 0: whatever is there. All may block on the backing file's server, and throw
// Error not_attached, stale, failed.
#pragma once

#include <cstdint>

#include "core/loop_kernel.hpp"
#include "core/unique_fd.hpp"

namespace loop {

// The kernel's flag. Set on a device that nobody has open, it detaches at once.
void set_autoclear(LoopKernel& kernel, unsigned number, uint64_t disk_sequence, bool enable);

// Throws not_supported where the file's file system, the offset or the block
// size forbid it.
void set_direct_io(LoopKernel& kernel, unsigned number, uint64_t disk_sequence, bool enable);

// A descriptor of the device itself, for whoever is trusted with it: it can
// detach the device, or swap its file.
UniqueFd open_device(LoopKernel& kernel, unsigned number, uint64_t disk_sequence, bool writable);

}  // namespace loop
