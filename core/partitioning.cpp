// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/partitioning.hpp"

#include <linux/loop.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>

#include "core/error.hpp"
#include "core/loop_kernel.hpp"
#include "core/node_deletion.hpp"
#include "core/open_attachment.hpp"
#include "core/partition_table.hpp"

namespace loop {
namespace {

bool contains(const std::vector<PartitionExtent>& partitions, const PartitionExtent& wanted) {
  return std::find(partitions.begin(), partitions.end(), wanted) != partitions.end();
}

}  // namespace

bool delete_partitions(const LoopKernel& kernel, LoopNode& node, unsigned number) {
  bool all = true;
  for (const PartitionExtent& partition : kernel.partitions(number)) {
    all &= node.delete_partition(partition.number) != -EBUSY;
  }
  return all;
}

std::vector<TableEntry> add_partitions(const LoopKernel& kernel, LoopNode& node, unsigned number,
                                       const std::vector<TableEntry>& entries) {
  std::vector<TableEntry> added;
  std::optional<std::vector<PartitionExtent>>
      leftovers;  // looked at once: a table may have thousands that overlap
  for (const TableEntry& entry : entries) {
    const int r = node.add_partition(entry.extent);
    // EBUSY: overlaps another partition, or is there already: a leftover that
    // somebody has open could not be deleted.
    if (r == -EBUSY && !leftovers) leftovers = kernel.partitions(number);
    const bool there = r == -EBUSY && contains(*leftovers, entry.extent);
    // EINVAL: unaligned, or a number that the kernel has no place for. The rest
    // of the disk is good all the same.
    if (!there && (r == -EINVAL || r == -EBUSY || r == -ERANGE)) continue;
    if (!there && r < 0) {
      throw Error(
          Errc::failed, -r,
          "adding partition " + std::to_string(entry.extent.number) + " of loop" + std::to_string(number));
    }
    added.push_back(entry);
  }
  return added;
}

namespace {

// udev's probing keeps a partition for moments; whoever keeps it longer uses it.
void delete_patiently(LoopKernel& kernel, LoopNode& node, unsigned number, std::vector<unsigned> gone) {
  std::unique_ptr<UseWatch> watch;
  if (!gone.empty()) kernel.watch_use(number, watch);  // before the first try, so that no close is missed
  const Deadline deadline = deadline_in(std::chrono::milliseconds(300));
  do {
    std::erase_if(gone, [&node](unsigned partition) { return node.delete_partition(partition) != -EBUSY; });
  } while (!gone.empty() && watch && wait_for_use_change(*watch, deadline));
}

}  // namespace

std::vector<TableEntry> sync_partitions(LoopKernel& kernel, unsigned number, uint64_t disk_sequence,
                                        WithoutTable without, size_t most) {
  loop_info64 info{};
  const auto node = open_attachment(kernel, number, disk_sequence, NodeAccess::read_only, info);
  uint64_t size = 0;
  unsigned block_size = 0;
  int r = node->size(size);
  if (r >= 0) r = node->block_size(block_size);
  if (r < 0) throw Error(Errc::failed, -r, "reading the size of loop" + std::to_string(number));
  // Somebody may have it open, and pages of an older table cached.
  node->drop_cache();
  const PartitionTable table = read_partition_table(node->fd(), block_size);
  if (table.type.empty() && without == WithoutTable::change_nothing) return {};
  std::vector<TableEntry> entries = usable_entries(table, size);
  if (entries.size() > most) {
    throw Error(Errc::limits_exceeded, "the table of loop" + std::to_string(number) + " has " +
                                           std::to_string(entries.size()) + " partitions, and it may have " +
                                           std::to_string(most));
  }
  std::vector<unsigned> gone;
  for (const PartitionExtent& known : kernel.partitions(number)) {
    const auto same = std::find_if(entries.begin(), entries.end(),
                                   [&](const TableEntry& entry) { return entry.extent == known; });
    if (same != entries.end()) {
      entries.erase(same);
    } else {
      gone.push_back(known.number);
    }
  }
  delete_patiently(kernel, *node, number, std::move(gone));
  return add_partitions(kernel, *node, number, entries);
}

}  // namespace loop
