// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/resizing.hpp"

#include <linux/loop.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <string>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/filesystem_extent.hpp"
#include "core/open_attachment.hpp"

namespace loop {
namespace {

constexpr uint64_t sector = 512;

// What the kernel is about to compute. Nothing where the path of the backing
// file leads to another file or nowhere, or where it is a block device.
std::optional<uint64_t> coming_size(const LoopKernel& kernel, unsigned number, const loop_info64& info) {
  const auto path = kernel.attribute(number, "loop/backing_file");
  struct stat st {};
  if (!path || !kernel.may_look_at_files() || ::stat(path->c_str(), &st) < 0 || !S_ISREG(st.st_mode))
    return std::nullopt;
  if (st.st_dev != info.lo_device || st.st_ino != info.lo_inode) return std::nullopt;
  const auto file_size = static_cast<uint64_t>(st.st_size);
  uint64_t size = file_size > info.lo_offset ? file_size - info.lo_offset : 0;
  if (info.lo_sizelimit != 0) size = std::min<uint64_t>(size, info.lo_sizelimit);
  return size / sector * sector;
}

// What the device is needed for, and up to where.
struct Need {
  std::string user;
  uint64_t end = 0;  // bytes
};

Need need_of(LoopKernel& kernel, unsigned number, const LoopNode& node, uint64_t size) {
  Need need;
  for (const PartitionExtent& partition : kernel.partitions(number)) {
    const uint64_t end = partition.offset + partition.size;
    if (end > need.end) need = {"partition " + std::to_string(partition.number), end};
  }
  if (need.end != 0) return need;
  // Mounted, in any namespace, or swap, or below another device: an exclusive
  // open tells, and changes nothing.
  std::unique_ptr<LoopNode> exclusive;
  if (kernel.open_node(number, NodeAccess::read_exclusive, exclusive) != -EBUSY) return need;
  if (const auto extent = filesystem_extent(node.fd())) return {"its mounted file system", *extent};
  return {"whoever uses it exclusively", size};
}

void check(int r, const std::string& what) {
  if (r < 0) throw Error(Errc::failed, -r, what);
}

}  // namespace

DeviceSizes resize(LoopKernel& kernel, unsigned number, uint64_t disk_sequence, ResizeOptions options) {
  const std::string name = kernel_name(number);
  if (options.size_limit && *options.size_limit > LLONG_MAX) {
    throw Error(Errc::invalid_argument,
                "size-limit: " + std::to_string(*options.size_limit) + " is larger than any file");
  }
  loop_info64 info{};
  const auto node = open_attachment(kernel, number, disk_sequence, NodeAccess::read_only, info);
  DeviceSizes sizes;
  check(node->size(sizes.before), "reading the size of " + name);

  const uint64_t old_limit = info.lo_sizelimit;
  if (options.size_limit) info.lo_sizelimit = *options.size_limit;
  std::optional<uint64_t> coming = coming_size(kernel, number, info);
  // Without the file's size, a new limit alone tells what it can't be larger than.
  if (!coming && options.size_limit && *options.size_limit != 0)
    coming = *options.size_limit / sector * sector;
  if (coming && *coming == 0) {
    throw Error(Errc::would_truncate, name + ": nothing would be left of it");
  }
  if (coming && *coming < sizes.before && !options.force) {
    const Need need = need_of(kernel, number, *node, sizes.before);
    if (need.end > *coming) {
      throw Error(Errc::would_truncate, name + ": only " + std::to_string(*coming) +
                                            " bytes would be left, " + need.user + " needs " +
                                            std::to_string(need.end));
    }
  }
  // Either computes the size anew; doing both would send a second event, which
  // looks like that of a rewritten table.
  if (info.lo_sizelimit != old_limit) {
    check(node->set_status(info), "setting the size limit of " + name);
  } else {
    check(node->set_capacity(), "LOOP_SET_CAPACITY of " + name);
  }
  check(node->size(sizes.after), "reading the size of " + name);
  return sizes;
}

}  // namespace loop
