// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/resizing.hpp"

#include <linux/loop.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <string>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/filesystem_extent.hpp"
#include "core/open_attachment.hpp"
#include "core/snapshot_reading.hpp"

namespace loop {
namespace {

constexpr uint64_t sector = 512;

// What the kernel is about to compute. Nothing where the path of the backing file
// leads to another file or nowhere.
std::optional<uint64_t> coming_size(LoopKernel& kernel, unsigned number, const loop_info64& info) {
  const auto path = kernel.attribute(number, "loop/backing_file");
  const auto file = path ? kernel.find_file(*path) : std::nullopt;
  if (!file || file->identity != backing_identity(info)) return std::nullopt;
  uint64_t size = file->size > info.lo_offset ? file->size - info.lo_offset : 0;
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

// Throws would_truncate where the device would become shorter than it is needed, or
// where it is needed and nobody can tell. `most`: what it becomes, or, without a
// size to come, what it can't be larger than.
void guard(const Need& need, std::optional<uint64_t> coming, uint64_t most, const std::string& name) {
  if (need.end > most) {
    throw Error(Errc::would_truncate, name + ": only " + std::to_string(most) + " bytes would be left, " +
                                          need.user + " needs " + std::to_string(need.end));
  }
  if (need.end != 0 && !coming) {
    throw Error(Errc::would_truncate, name +
                                          ": its path does not lead to its file, so that nobody can tell " +
                                          "how large that is by now, and " + need.user + " needs " +
                                          std::to_string(need.end) + " bytes; force resizes all the same");
  }
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
  const std::optional<uint64_t> coming = coming_size(kernel, number, info);
  const uint64_t limit = info.lo_sizelimit == 0 ? UINT64_MAX : info.lo_sizelimit / sector * sector;
  const uint64_t most = coming.value_or(limit);
  if (most == 0) throw Error(Errc::would_truncate, name + ": nothing would be left of it");
  const bool may_cut = !coming || *coming < sizes.before;
  if (may_cut && !options.force) guard(need_of(kernel, number, *node, sizes.before), coming, most, name);
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
