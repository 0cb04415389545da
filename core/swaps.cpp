// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/swaps.hpp"

#include <sys/stat.h>

#include <fstream>

#include "core/mounts.hpp"

namespace loop {

std::vector<std::string> active_swaps() {
  std::vector<std::string> paths;
  std::ifstream swaps("/proc/swaps");
  std::string line;
  std::getline(swaps, line);  // the heading
  while (std::getline(swaps, line)) {
    std::string path = line.substr(0, line.find_first_of(" \t"));
    if (!path.empty()) {
      paths.push_back(undo_octal_escapes(path));
    }
  }
  return paths;
}

bool is_active_swap(bool block_device, dev_t dev, ino_t inode, dev_t rdev) {
  for (const std::string& path : active_swaps()) {
    struct stat st {};
    if (::stat(path.c_str(), &st) < 0) continue;
    const bool same =
        block_device ? S_ISBLK(st.st_mode) && st.st_rdev == rdev : st.st_dev == dev && st.st_ino == inode;
    if (same) return true;
  }
  return false;
}

}  // namespace loop
