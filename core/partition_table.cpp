// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/partition_table.hpp"

#include <blkid/blkid.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "core/error.hpp"
#include "core/table_bounds.hpp"
#include "core/utf8.hpp"

namespace loop {
namespace {

constexpr uint64_t table_unit = 512;  // libblkid's, whatever the sector size

struct FreeProbe {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<std::remove_pointer_t<blkid_probe>, FreeProbe>;

std::string text_or_empty(const char* text) { return text ? escape_to_utf8(text) : std::string(); }

std::string type_of(blkid_partition partition) {
  if (const char* text = blkid_partition_get_type_string(partition)) return escape_to_utf8(text);
  char code[8];
  std::snprintf(code, sizeof code, "0x%02x", static_cast<unsigned>(blkid_partition_get_type(partition)));
  return code;
}

TableEntry entry_of(blkid_partition partition) {
  TableEntry entry;
  entry.extent.number = static_cast<unsigned>(blkid_partition_get_partno(partition));
  entry.extent.offset = static_cast<uint64_t>(blkid_partition_get_start(partition)) * table_unit;
  entry.extent.size = static_cast<uint64_t>(blkid_partition_get_size(partition)) * table_unit;
  entry.type = type_of(partition);
  entry.uuid = text_or_empty(blkid_partition_get_uuid(partition));
  entry.name = text_or_empty(blkid_partition_get_name(partition));
  entry.extended = blkid_partition_is_extended(partition) != 0;
  return entry;
}

// libblkid has no other word for a disk without a table than for one that it could not
// read, and leaves errors of its own search behind.
bool is_failed_read(int error) { return error == EIO || error == ENOMEM || error == ENXIO || error == EINTR; }

}  // namespace

PartitionTable read_partition_table(int fd, unsigned sector_size, DiskRange range) {
  const Probe probe(blkid_new_probe());
  if (!probe || blkid_probe_set_device(probe.get(), fd, static_cast<blkid_loff_t>(range.offset),
                                       static_cast<blkid_loff_t>(range.size)) < 0) {
    throw Error(Errc::failed, errno, "cannot probe the partition table");
  }
  if (sector_size != 0) {
    blkid_probe_set_sectorsize(probe.get(), sector_size);
  }
  // The size that libblkid has found out.
  range.size = static_cast<uint64_t>(blkid_probe_get_size(probe.get()));
  refuse_endless_table(fd, blkid_probe_get_sectorsize(probe.get()), range);
  // A whole-disk file system (a boot sector looks much like an MBR) must not be
  // taken for a table: libblkid's own check against known file systems decides,
  // which needs the superblocks chain beside the partitions chain.
  blkid_probe_enable_superblocks(probe.get(), 0);
  blkid_probe_enable_partitions(probe.get(), 1);
  blkid_probe_set_partitions_flags(probe.get(), BLKID_PARTS_ENTRY_DETAILS);

  errno = 0;
  const blkid_partlist list = blkid_probe_get_partitions(probe.get());
  PartitionTable table;
  if (!list) {
    if (is_failed_read(errno)) throw Error(Errc::failed, errno, "cannot read the partition table");
    return table;
  }
  const blkid_parttable found = blkid_partlist_get_table(list);
  if (!found) return table;
  table.type = text_or_empty(blkid_parttable_get_type(found));
  const int count = blkid_partlist_numof_partitions(list);
  for (int i = 0; i < count; ++i) {
    table.entries.push_back(entry_of(blkid_partlist_get_partition(list, i)));
  }
  std::sort(table.entries.begin(), table.entries.end(),
            [](const auto& a, const auto& b) { return a.extent.number < b.extent.number; });
  return table;
}

std::vector<TableEntry> usable_entries(const PartitionTable& table, uint64_t disk_size) {
  std::vector<TableEntry> usable;
  for (TableEntry entry : table.entries) {
    if (entry.extended) {
      entry.extent.size = std::min(entry.extent.size, 2 * table_unit);
    }
    const bool inside = entry.extent.number > 0 && entry.extent.size > 0 && entry.extent.offset < disk_size &&
                        entry.extent.size <= disk_size - entry.extent.offset;
    if (inside) usable.push_back(std::move(entry));
  }
  return usable;
}

}  // namespace loop
