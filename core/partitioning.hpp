// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/partition.hpp"

namespace loop {

class LoopKernel;
class LoopNode;

// Deletes every partition that the kernel knows on the device. One that is in
// use stays, and the answer is false.
bool delete_partitions(const LoopKernel& kernel, LoopNode& node, unsigned number);

// Tells the kernel of these entries, and returns those that it took. One that it
// can't take (overlapping, unaligned, no room for the number) does not keep the
// others out. Throws Error failed for anything else.
std::vector<TableEntry> add_partitions(const LoopKernel& kernel, LoopNode& node, unsigned number,
                                       const std::vector<TableEntry>& entries);

// Makes the kernel's partitions those of the table that is on the device now, by
// the differences alone: one that is as it was is not touched, one that is in
// use stays. Returns what was added. `disk_sequence` as in open_attachment(). May block on the backing
// file's server. Throws Error not_attached, stale, failed; limits_exceeded, and changes nothing, where the
// table has more than `most`.
enum class WithoutTable { delete_all, change_nothing };
std::vector<TableEntry> sync_partitions(LoopKernel& kernel, unsigned number, uint64_t disk_sequence,
                                        WithoutTable without = WithoutTable::delete_all,
                                        size_t most = std::numeric_limits<size_t>::max());

}  // namespace loop
