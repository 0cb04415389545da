// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/examination.hpp"

#include <linux/loop.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/file_locality.hpp"
#include "core/loop_kernel.hpp"
#include "core/open_attachment.hpp"
#include "core/partition_table.hpp"

namespace loop {
namespace {

// What the device is, beside what GET_STATUS64 says that it maps.
void read_sizes(const LoopNode& node, DeviceSnapshot& snapshot) {
  snapshot.dev = node.device_number();
  int r = node.size(snapshot.size);
  if (r >= 0) r = node.block_size(snapshot.block_size);
  if (r < 0) throw Error(Errc::failed, -r, "cannot ask " + snapshot.dev_path() + " for its size");
}

}  // namespace

std::vector<KnownPartition> known_partitions(const LoopKernel& kernel, unsigned number) {
  std::vector<KnownPartition> known;
  for (const PartitionExtent& extent : kernel.partitions(number)) {
    const std::string name = kernel_name(number) + "p" + std::to_string(extent.number) + "/dev";
    const auto dev = kernel.attribute(number, name.c_str());
    if (!dev) continue;  // it is just going away
    KnownPartition partition;
    partition.entry.extent = extent;
    partition.dev = parse_device_number(*dev);
    known.push_back(std::move(partition));
  }
  return known;
}

std::optional<KnownPartition> known_partition(const LoopKernel& kernel, unsigned number, unsigned partition) {
  const std::string directory = kernel_name(number) + "p" + std::to_string(partition) + "/";
  const auto read = [&](const char* name) { return kernel.attribute(number, (directory + name).c_str()); };
  const auto dev = read("dev");
  const auto start = read("start");
  const auto size = read("size");
  if (!dev || !start || !size) return std::nullopt;
  KnownPartition known;
  known.entry.extent = {partition, std::strtoull(start->c_str(), nullptr, 10) * sysfs_sector,
                        std::strtoull(size->c_str(), nullptr, 10) * sysfs_sector};
  known.dev = parse_device_number(*dev);
  return known;
}

std::optional<Examination> identify(const LoopKernel& kernel, unsigned number, uint64_t known) {
  auto snapshot = read_identity(kernel, number);
  if (!snapshot) return std::nullopt;
  const bool is_known = known != 0 && snapshot->disk_sequence == known;
  const bool local = is_known || is_path_served_locally(snapshot->backing_file);
  return Examination{std::move(*snapshot), {}, local};
}

bool examine(const LoopKernel& kernel, Examination& examination) {
  examination.complete = read_settings(kernel, examination.snapshot);
  return examination.complete;
}

void apply_entries(const std::vector<TableEntry>& entries, std::vector<KnownPartition>& partitions) {
  for (KnownPartition& partition : partitions) {
    const auto found = std::find_if(entries.begin(), entries.end(), [&](const TableEntry& entry) {
      return entry.extent.number == partition.entry.extent.number &&
             entry.extent.offset == partition.entry.extent.offset;
    });
    if (found == entries.end()) continue;
    const uint64_t size = partition.entry.extent.size;  // the kernel's: it may have been resized
    partition.entry = *found;
    partition.entry.extent.size = size;
  }
}

bool describe(LoopKernel& kernel, Examination& examination, const std::function<void(int file)>& watch) {
  DeviceSnapshot& snapshot = examination.snapshot;
  loop_info64 info{};
  try {
    const auto node =
        open_attachment(kernel, snapshot.number, snapshot.disk_sequence, NodeAccess::read_only, info);
    if (!examination.complete) read_sizes(*node, snapshot);
    apply_status(info, snapshot);
    if (kernel.may_look_at_files()) look_at_backing_file(snapshot, watch);
    examination.complete = true;
    if (!examination.partitions.empty()) {
      apply_entries(read_partition_table(node->fd(), snapshot.block_size).entries, examination.partitions);
    }
  } catch (const Error& error) {
    if (error.code() == Errc::stale || error.code() == Errc::not_attached) return false;
    // A disk that can't be read has partitions without names, and one that can't be opened no more than sysfs
    // tells.
    return examination.complete || examine(kernel, examination);
  }
  return true;
}

}  // namespace loop
