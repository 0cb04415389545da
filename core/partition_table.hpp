// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <vector>

#include "core/partition.hpp"

namespace loop {

struct PartitionTable {
  std::string type;  // "gpt", "dos"…; empty: no table
  std::vector<TableEntry> entries;
};

// The part of a file that is the disk, in bytes. Size 0: to its end.
struct DiskRange {
  uint64_t offset = 0;
  uint64_t size = 0;
};

// Reads the table of a disk or image with libblkid. `fd` is borrowed;
// `sector_size` in bytes, 0: as the descriptor's device says (512 for a file).
// No table is an empty result. Throws Error failed where the disk can't be read,
// invalid_argument where reading the table would have no end.
PartitionTable read_partition_table(int fd, unsigned sector_size = 0, DiskRange range = {});

// The entries that the kernel can be told about on a disk of `disk_size` bytes:
// those that begin beyond its end are left out (a truncated image), those that
// end beyond it too, and an MBR's extended partition is cut to the two sectors
// that the kernel gives it, as its logical partitions lie inside.
std::vector<TableEntry> usable_entries(const PartitionTable& table, uint64_t disk_size);

}  // namespace loop
