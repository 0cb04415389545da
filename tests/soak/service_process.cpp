// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/service_process.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace soak {

namespace fs = std::filesystem;

std::vector<std::string> open_descriptors(pid_t process) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(process) + "/fd")) {
    std::error_code closed_meanwhile;
    found.push_back(fs::read_symlink(entry.path(), closed_meanwhile));
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> descriptors_since(const std::vector<std::string>& before, pid_t process) {
  const std::vector<std::string> now = open_descriptors(process);
  std::vector<std::string> appeared;
  std::set_difference(now.begin(), now.end(), before.begin(), before.end(), std::back_inserter(appeared));
  return appeared;
}

uint64_t resident_kib(pid_t process) {
  std::ifstream statm("/proc/" + std::to_string(process) + "/statm");
  uint64_t size = 0;
  uint64_t resident = 0;
  statm >> size >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)) / 1024;
}

std::map<std::string, std::map<std::string, std::string>> state_files(const std::string& directory) {
  std::map<std::string, std::map<std::string, std::string>> found;
  for (const auto& entry : fs::directory_iterator(directory)) {
    auto& values = found[entry.path().filename()];
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      const auto equals = line.find('=');
      if (equals != std::string::npos) values[line.substr(0, equals)] = line.substr(equals + 1);
    }
  }
  return found;
}

}  // namespace soak
