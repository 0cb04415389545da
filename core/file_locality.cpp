// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/file_locality.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <string_view>
#include <utility>

namespace loop {
namespace {

// A list of what is known, not of what is feared: fuse, nfs, cifs, 9p, ceph, afs
// and whatever comes next are not in it.
constexpr std::array<std::string_view, 32> local_types{
    "bcachefs", "btrfs", "cramfs", "devtmpfs", "erofs",     "exfat",   "ext2",     "ext3",
    "ext4",     "f2fs",  "hfs",    "hfsplus",  "hugetlbfs", "iso9660", "jffs2",    "jfs",
    "minix",    "msdos", "nilfs2", "ntfs3",    "overlay",   "ramfs",   "reiserfs", "rootfs",
    "squashfs", "tmpfs", "ubifs",  "udf",      "ufs",       "vfat",    "xfs",      "zfs"};

bool is_local_type(std::string_view type) {
  return std::find(local_types.begin(), local_types.end(), type) != local_types.end();
}

// The mount that a descriptor was opened through.
int mount_id_of(int fd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
  std::string line;
  constexpr std::string_view key = "mnt_id:";
  while (std::getline(info, line)) {
    if (line.starts_with(key)) return std::atoi(line.c_str() + key.size());
  }
  return -1;
}

bool lies_below(const std::string& path, const std::string& mount_point) {
  if (mount_point == "/") return true;
  return path.starts_with(mount_point) &&
         (path.size() == mount_point.size() || path[mount_point.size()] == '/');
}

}  // namespace

bool is_served_locally(int fd) {
  if (::fcntl(fd, F_GET_SEALS) >= 0) return true;  // a memfd, on a mount that nobody sees
  const int id = mount_id_of(fd);
  const auto all = mounts();
  for (const Mount& mount : *all) {
    if (mount.id == id) return is_local_type(mount.type);
  }
  return false;
}

bool FileLocality::is_served_locally(int fd, const FileIdentity& file) {
  if (file.block_device) return true;
  // The number of a file system that is gone may be another's by now.
  auto all = mounts();
  if (all != mounts_) known_.clear();
  mounts_ = std::move(all);
  const auto known = known_.find(file.dev);
  if (known != known_.end()) return known->second;
  const bool local = loop::is_served_locally(fd);
  known_.emplace(file.dev, local);
  return local;
}

bool is_path_served_locally(const std::string& path) {
  const Mount* nearest = nullptr;
  const auto all = mounts();
  for (const Mount& mount : *all) {
    // Of two on one mount point the later one covers the other.
    if (lies_below(path, mount.mount_point) &&
        (nearest == nullptr || mount.mount_point.size() >= nearest->mount_point.size())) {
      nearest = &mount;
    }
  }
  return nearest != nullptr && is_local_type(nearest->type);
}

}  // namespace loop
