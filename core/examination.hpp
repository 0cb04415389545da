// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "core/partition.hpp"
#include "core/snapshot_reading.hpp"

namespace loop {

class LoopKernel;

// A device and its partitions, asked for in one or two steps.
struct Examination {
  DeviceSnapshot snapshot;
  std::vector<KnownPartition> partitions;
  bool served_locally = true;  // the backing file, as its path tells; of an attachment that is not known yet
  bool complete = false;       // all of the snapshot has been read
};

// Which attachment it is, and its backing file: what tells who is to be asked for the rest. Sysfs alone,
// which never waits for the backing file's server. Nothing where no file is attached. Partitions are for the
// caller to list, where they are of interest. `known` is the disk sequence of an attachment of which the
// caller knows how its file is served: for that one the mount table, which may be long, is not read.
std::optional<Examination> identify(const LoopKernel& kernel, unsigned number, uint64_t known = 0);

// The rest, from sysfs. False where the device is not that attachment any more.
bool examine(const LoopKernel& kernel, Examination& examination);

// The partitions that the kernel knows, with their device numbers.
std::vector<KnownPartition> known_partitions(const LoopKernel& kernel, unsigned number);

// One of them; nothing where it is just going away.
std::optional<KnownPartition> known_partition(const LoopKernel& kernel, unsigned number, unsigned partition);

// The rest, from the device itself, which is one descriptor instead of a dozen attributes, and what only it
// tells: GET_STATUS64, and the table's types, UUIDs and names. May block for as long as the backing file's
// server does. False where the device is not that attachment any more. `watch` is look_at_backing_file()'s.
bool describe(LoopKernel& kernel, Examination& examination,
              const std::function<void(int file)>& watch = nullptr);

// Fills in types, UUIDs and names from table entries with the same place.
void apply_entries(const std::vector<TableEntry>& entries, std::vector<KnownPartition>& partitions);

}  // namespace loop
