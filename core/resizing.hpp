// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>

#include "core/resize_options.hpp"

namespace loop {

class LoopKernel;

// Computes the size of a device anew from its backing file and limit, as after
// growing or truncating the file. `disk_sequence` 0: whatever is attached.
// Refuses (would_truncate) to shrink below the end of the last partition, of a
// mounted file system, or of whatever else uses the device exclusively. Where any of
// these is there and the path of the backing file does not lead to it (unlinked, or
// in memory), so that the size to come cannot be told, it refuses, too. May block on
// the file's server. Throws Error not_attached, stale, would_truncate,
// invalid_argument, failed.
DeviceSizes resize(LoopKernel& kernel, unsigned number, uint64_t disk_sequence = 0,
                   ResizeOptions options = {});

}  // namespace loop
