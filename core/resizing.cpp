// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/resizing.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <string>

#include "core/device_snapshot.hpp"
#include "core/error.hpp"
#include "core/open_attachment.hpp"

namespace loop {
namespace {

constexpr uint64_t sector = 512;

// What the kernel is about to compute. Nothing where the path of the backing
// file leads to another file or nowhere, or where it is a block device.
std::optional<uint64_t> coming_size(const LoopKernel& kernel, unsigned number, const loop_info64& info) {
  const auto path = kernel.attribute(number, "loop/backing_file");
  struct stat st {};
  if (!path || ::stat(path->c_str(), &st) < 0 || !S_ISREG(st.st_mode)) return std::nullopt;
  if (st.st_dev != info.lo_device || st.st_ino != info.lo_inode) return std::nullopt;
  const auto file_size = static_cast<uint64_t>(st.st_size);
  uint64_t size = file_size > info.lo_offset ? file_size - info.lo_offset : 0;
  if (info.lo_sizelimit != 0) size = std::min<uint64_t>(size, info.lo_sizelimit);
  return size / sector * sector;
}

}  // namespace

DeviceSizes resize(LoopKernel& kernel, unsigned number, uint64_t disk_sequence) {
  const std::string name = "loop" + std::to_string(number);
  loop_info64 info{};
  const auto node = open_attachment(kernel, number, disk_sequence, NodeAccess::read_only, info);
  DeviceSizes sizes;
  if (const int r = node->size(sizes.before); r < 0)
    throw Error(Errc::failed, -r, "reading the size of " + name);

  const auto coming = coming_size(kernel, number, info);
  if (coming && *coming < sizes.before) {
    for (const PartitionExtent& partition : kernel.partitions(number)) {
      const uint64_t end = partition.offset + partition.size;
      if (end > *coming) {
        throw Error(Errc::would_truncate, name + ": the backing file leaves only " + std::to_string(*coming) +
                                              " bytes, partition " + std::to_string(partition.number) +
                                              " ends at " + std::to_string(end));
      }
    }
  }
  if (const int r = node->set_capacity(); r < 0) {
    throw Error(Errc::failed, -r, "LOOP_SET_CAPACITY of " + name);
  }
  if (const int r = node->size(sizes.after); r < 0)
    throw Error(Errc::failed, -r, "reading the size of " + name);
  return sizes;
}

}  // namespace loop
