// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/node_directory.hpp"

#include <fcntl.h>
#include <linux/major.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>

namespace loop {
namespace {

// More devices than most systems have, a millisecond's work and 256 KiB of the kernel's memory.
constexpr unsigned prepared_nodes = 256;

constexpr mode_t node_mode = S_IFBLK | S_IRUSR | S_IWUSR;

std::string name_of(dev_t device) {
  return std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

bool add_nodes(int directory) {
  unsigned partitions = 0;  // a device's numbers for partitions, behind its own
  std::ifstream("/sys/module/loop/parameters/max_part") >> partitions;
  for (unsigned number = 0; number < prepared_nodes; ++number) {
    const dev_t device = makedev(LOOP_MAJOR, number * (partitions + 1));
    if (::mknodat(directory, name_of(device).c_str(), node_mode, device) < 0) return false;
  }
  return true;
}

bool make_read_only(int mount) {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  return ::syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0;
}

}  // namespace

// glibc has wrappers from 2.36 on.
UniqueFd make_node_directory(Nodes nodes) {
  const UniqueFd configuration(static_cast<int>(::syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)));
  if (!configuration) return {};
  const auto configure = [&](unsigned command, const char* key, const char* value) {
    return ::syscall(SYS_fsconfig, configuration.get(), command, key, value, 0) == 0;
  };
  if (!configure(FSCONFIG_SET_STRING, "mode", "0700") || !configure(FSCONFIG_CMD_CREATE, nullptr, nullptr)) {
    return {};
  }
  const UniqueFd mount(static_cast<int>(
      ::syscall(SYS_fsmount, configuration.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)));
  if (!mount) return {};
  if (nodes == Nodes::prepared && (!add_nodes(mount.get()) || !make_read_only(mount.get()))) return {};
  // Not the mount's own descriptor: systemd 252 stores no O_PATH descriptors. What is opened
  // keeps the file system when that one is closed.
  return UniqueFd(::openat(mount.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

int open_unwatched(int directory, dev_t device, UniqueFd& fd) {
  const std::string name = name_of(device);
  const auto open_node = [&] {
    fd.reset(::openat(directory, name.c_str(), O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
    return fd ? 0 : -errno;
  };
  if (const int r = open_node(); r != -ENOENT) return r;
  if (::mknodat(directory, name.c_str(), node_mode, device) < 0) return -errno;
  const int r = open_node();
  ::unlinkat(directory, name.c_str(), 0);
  return r;
}

}  // namespace loop
