// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>

namespace loop {

class LoopKernel;

struct DeviceSizes {
  uint64_t before = 0;  // bytes
  uint64_t after = 0;
};

// Computes the size of a device anew from its backing file and limit, as after
// growing or truncating the file. `disk_sequence` 0: whatever is attached.
// Refuses (would_truncate) where the file has become so short that the last
// partition would be cut, as far as the file's path still leads to it. May block
// on the file's server. Throws Error not_attached, stale, would_truncate, failed.
DeviceSizes resize(LoopKernel& kernel, unsigned number, uint64_t disk_sequence = 0);

}  // namespace loop
