// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace loop {

// Where a partition lies on its device, in bytes. Number counts from 1.
struct PartitionExtent {
  unsigned number = 0;
  uint64_t offset = 0;
  uint64_t size = 0;

  bool operator==(const PartitionExtent&) const = default;
};

// A partition as a table describes it. Type, UUID and name are those of the
// entry, and empty where the table has none.
struct TableEntry {
  PartitionExtent extent;
  std::string type;
  std::string uuid;
  std::string name;
  bool extended = false;  // an MBR container of logical partitions

  bool operator==(const TableEntry&) const = default;
};

// A partition that the kernel knows. Its extent is the kernel's.
struct KnownPartition {
  TableEntry entry;  // only the extent, until described
  dev_t dev = 0;

  bool operator==(const KnownPartition&) const = default;
};

}  // namespace loop
