// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/holders.hpp"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string_view>

#include "core/device_name.hpp"
#include "core/loop_kernel.hpp"
#include "core/mounts.hpp"
#include "core/swaps.hpp"
#include "core/utf8.hpp"

namespace loop {
namespace {

constexpr size_t most_named = 8;  // holders in one message

// Names of the device and its partitions, "loop3", "loop3p1"….
std::vector<std::string> names_of(const LoopKernel& kernel, unsigned number) {
  const std::string disk = kernel_name(number);
  std::vector<std::string> names{disk};
  for (const PartitionExtent& partition : kernel.partitions(number)) {
    names.push_back(disk + "p" + std::to_string(partition.number));
  }
  return names;
}

// Which of the names a device path is; empty: none.
std::string name_in(const std::vector<std::string>& names, std::string_view path) {
  constexpr std::string_view dev = "/dev/";
  if (!path.starts_with(dev)) return {};
  path.remove_prefix(dev.size());
  const auto found = std::find(names.begin(), names.end(), path);
  return found == names.end() ? std::string() : *found;
}

void each_entry(const std::string& directory, const std::function<void(const std::string&)>& visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(directory.c_str()), ::closedir);
  if (!dir) return;
  while (const dirent* entry = ::readdir(dir.get())) {
    if (entry->d_name[0] != '.') visit(entry->d_name);
  }
}

// What its file system is mounted from, anybody may say who runs a file system's server.
bool chooses_its_source(const Mount& mount) {
  return mount.type == "fuse" || mount.type.starts_with("fuse.");
}

void add_mounts(const std::vector<std::string>& names, std::vector<Holder>& holders) {
  const auto all = mounts();
  for (const Mount& mount : *all) {
    std::string name = chooses_its_source(mount) ? std::string() : name_in(names, mount.source);
    struct stat st {};
    for (size_t i = 0; name.empty() && i < names.size(); ++i) {
      // A source may be a link, or a name from before; the number tells.
      if (::stat(("/dev/" + names[i]).c_str(), &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == mount.dev) {
        name = names[i];
      }
    }
    if (!name.empty()) {
      holders.push_back({"mounted at " + escape_to_utf8(mount.mount_point) + " (" + name + ")"});
    }
  }
}

void add_swaps(const std::vector<std::string>& names, std::vector<Holder>& holders) {
  const auto swaps = active_swaps();
  for (const std::string& path : *swaps) {
    if (const std::string name = name_in(names, path); !name.empty()) {
      holders.push_back({"swap (" + name + ")"});
    }
  }
}

// Device-mapper, MD and other block devices on top.
void add_stacked_devices(const std::vector<std::string>& names, std::vector<Holder>& holders) {
  for (const std::string& name : names) {
    each_entry("/sys/class/block/" + name + "/holders", [&](const std::string& holder) {
      holders.push_back({"block device " + holder + " (" + name + ")"});
    });
  }
}

void add_loops(const LoopKernel& kernel, const std::vector<std::string>& names,
               std::vector<Holder>& holders) {
  for (const unsigned number : kernel.numbers()) {
    const auto file = kernel.attribute(number, "loop/backing_file");
    if (!file) continue;
    if (const std::string name = name_in(names, *file); !name.empty()) {
      holders.push_back({"loop device loop" + std::to_string(number) + " (" + name + ")"});
    }
  }
}

// Whoever does more than have it open; but for loop devices on top, which are told by what
// their files are called.
void add_users(const std::vector<std::string>& names, std::vector<Holder>& holders) {
  add_mounts(names, holders);
  add_swaps(names, holders);
  add_stacked_devices(names, holders);
}

std::string command_of(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/comm");
  std::string command;
  std::getline(file, command);
  return escape_to_utf8(command);
}

bool is_udev(const std::string& command) {
  return command == "(udev-worker)" || command == "systemd-udevd" || command == "udevd";
}

void add_processes(const std::vector<std::string>& names, std::vector<Holder>& holders) {
  const std::string self = std::to_string(::getpid());
  each_entry("/proc", [&](const std::string& pid) {
    if (holders.size() >= most_named || pid == self || pid[0] < '0' || pid[0] > '9') return;
    bool found = false;
    const std::string directory = "/proc/" + pid + "/fd";
    each_entry(directory, [&](const std::string& fd) {
      if (found) return;
      // The link's text, not the file: looking at a file may wait for its server.
      std::array<char, 64> target{};
      const ssize_t length = ::readlink((directory + "/" + fd).c_str(), target.data(), target.size() - 1);
      if (length <= 0) return;
      const std::string name = name_in(names, std::string_view(target.data(), static_cast<size_t>(length)));
      if (name.empty()) return;
      found = true;
      const std::string command = command_of(pid);
      holders.push_back({"process " + pid + " (" + command + ", " + name + ")", is_udev(command)});
    });
  });
}

}  // namespace

bool is_used(const LoopKernel& kernel, unsigned number) {
  std::vector<Holder> users;
  add_users(names_of(kernel, number), users);
  return !users.empty();
}

std::vector<Holder> find_holders(const LoopKernel& kernel, unsigned number) {
  const std::vector<std::string> names = names_of(kernel, number);
  std::vector<Holder> holders;
  add_users(names, holders);
  add_loops(kernel, names, holders);
  add_processes(names, holders);
  return holders;
}

std::string describe_holders(const LoopKernel& kernel, unsigned number) {
  const std::vector<Holder> holders = find_holders(kernel, number);
  if (holders.empty()) {
    return "by somebody who cannot be seen from here (a mount in another namespace, or a process that has "
           "let "
           "go by now)";
  }
  std::string text;
  for (size_t i = 0; i < holders.size() && i < most_named; ++i) {
    text += (i == 0 ? "" : ", ") + holders[i].text;
  }
  if (holders.size() > most_named) text += " and more";
  return text;
}

}  // namespace loop
