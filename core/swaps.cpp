// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/swaps.hpp"

#include <fcntl.h>
#include <poll.h>

#include <fstream>
#include <mutex>

#include "core/host_root.hpp"
#include "core/mounts.hpp"

namespace loop {
namespace {

std::vector<std::string> read_table() {
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

// The table is asked for with each attach, and hardly ever changes: /proc tells by poll
// whether it has, each open file of it once.
class SwapTable {
 public:
  std::vector<std::string> paths() {
    const std::lock_guard lock(mutex_);
    if (has_changed()) known_ = read_table();
    return known_;
  }

 private:
  bool has_changed() {
    if (!table_) {
      table_.reset(::open("/proc/swaps", O_RDONLY | O_CLOEXEC));
      return true;
    }
    pollfd changed{table_.get(), POLLPRI, 0};
    return ::poll(&changed, 1, 0) != 0;
  }

  std::mutex mutex_;
  UniqueFd table_;
  std::vector<std::string> known_;
};

}  // namespace

std::vector<std::string> active_swaps() {
  static SwapTable table;
  return table.paths();
}

bool is_active_swap(const FileIdentity& file) {
  for (const std::string& path : active_swaps()) {
    const UniqueFd fd = open_on_host(path, O_PATH);
    if (fd && identify_file(fd.get()) == file) return true;
  }
  return false;
}

}  // namespace loop
