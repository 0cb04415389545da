// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/filesystem_extent.hpp"

#include <endian.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string_view>

namespace loop {
namespace {

constexpr size_t superblock_size = 512;
using Superblock = std::array<char, superblock_size>;

template <typename Integer>
Integer at(const Superblock& block, size_t offset) {
  Integer value;
  std::memcpy(&value, block.data() + offset, sizeof value);
  return value;
}

bool read_superblock(int fd, off_t offset, Superblock& block) {
  return ::pread(fd, block.data(), block.size(), offset) == static_cast<ssize_t>(block.size());
}

bool has(const Superblock& block, size_t offset, std::string_view magic) {
  return std::memcmp(block.data() + offset, magic.data(), magic.size()) == 0;
}

// fs/ext4/ext4.h: s_blocks_count_lo, s_log_block_size, s_magic,
// s_feature_incompat, s_blocks_count_hi.
std::optional<uint64_t> ext_extent(int fd) {
  constexpr uint32_t incompat_64bit = 0x80;
  constexpr unsigned largest_log_block_size = 6;
  Superblock block;
  if (!read_superblock(fd, 1024, block) || le16toh(at<uint16_t>(block, 0x38)) != 0xEF53) return std::nullopt;
  const uint32_t log_block_size = le32toh(at<uint32_t>(block, 0x18));
  if (log_block_size > largest_log_block_size) return std::nullopt;
  uint64_t blocks = le32toh(at<uint32_t>(block, 0x04));
  if ((le32toh(at<uint32_t>(block, 0x60)) & incompat_64bit) != 0) {
    blocks |= static_cast<uint64_t>(le32toh(at<uint32_t>(block, 0x150))) << 32;
  }
  return blocks << (10 + log_block_size);
}

// fs/xfs/libxfs/xfs_format.h: sb_magicnum, sb_blocksize, sb_dblocks.
std::optional<uint64_t> xfs_extent(int fd) {
  Superblock block;
  if (!read_superblock(fd, 0, block) || !has(block, 0, "XFSB")) return std::nullopt;
  return be64toh(at<uint64_t>(block, 8)) * be32toh(at<uint32_t>(block, 4));
}

// include/uapi/linux/btrfs_tree.h: magic, dev_item.total_bytes.
std::optional<uint64_t> btrfs_extent(int fd) {
  Superblock block;
  if (!read_superblock(fd, 0x10000, block) || !has(block, 0x40, "_BHRfS_M")) return std::nullopt;
  constexpr size_t dev_item = 0xC9;
  return le64toh(at<uint64_t>(block, dev_item + 8));
}

}  // namespace

std::optional<uint64_t> filesystem_extent(int fd) {
  for (const auto& extent : {ext_extent, xfs_extent, btrfs_extent}) {
    if (const auto bytes = extent(fd)) return bytes;
  }
  return std::nullopt;
}

}  // namespace loop
