// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/swaps.hpp"

#include <fcntl.h>

#include <fstream>

#include "core/host_root.hpp"
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

bool is_active_swap(const FileIdentity& file) {
  for (const std::string& path : active_swaps()) {
    const UniqueFd fd = open_on_host(path, O_PATH);
    if (fd && identify_file(fd.get()) == file) return true;
  }
  return false;
}

}  // namespace loop
