// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/swaps.hpp"

#include <fcntl.h>

#include <fstream>
#include <optional>

#include "core/host_root.hpp"
#include "core/mounts.hpp"
#include "core/table_cache.hpp"

namespace loop {
namespace {

std::optional<std::vector<std::string>> read_swaps(const std::string& path) {
  std::ifstream swaps(path);
  if (!swaps) return std::nullopt;
  std::vector<std::string> paths;
  std::string line;
  std::getline(swaps, line);  // the heading
  while (std::getline(swaps, line)) {
    std::string area = line.substr(0, line.find_first_of(" \t"));
    if (!area.empty()) paths.push_back(undo_octal_escapes(area));
  }
  return paths;
}

}  // namespace

std::shared_ptr<const std::vector<std::string>> active_swaps() {
  static TableCache<std::string> swaps(read_swaps);
  return swaps.rows("/proc/swaps");
}

bool is_active_swap(const FileIdentity& file) {
  const auto paths = active_swaps();
  for (const std::string& path : *paths) {
    const UniqueFd fd = open_on_host(path, O_PATH);
    if (fd && identify_file(fd.get()) == file) return true;
  }
  return false;
}

}  // namespace loop
