// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <vector>

#include "tests/bus/child_process.hpp"

namespace bus_test {

// A udisksd on a bus of ours. What it remembers and mounts goes with it.
class UDisks {
 public:
  static constexpr const char* name = "org.freedesktop.UDisks2";

  explicit UDisks(const std::string& bus_address);
  UDisks(const UDisks&) = delete;
  UDisks& operator=(const UDisks&) = delete;
  ~UDisks();

  pid_t pid() const { return process_.pid(); }

 private:
  std::vector<std::string> made_;  // directories that were not there
  ChildProcess process_;
};

}  // namespace bus_test
