// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <syslog.h>

#include <chrono>
#include <optional>
#include <string>

#include "dbus/partition_quota.hpp"

namespace loopd {

struct CommandLine {
  int log_level = LOG_INFO;
  unsigned max_devices_per_user = 64;
  size_t max_partitions_per_user = PartitionQuota::default_limit;
  std::optional<std::chrono::microseconds> idle_timeout = std::chrono::seconds(30);  // nothing: stay
  std::string state_directory;  // $RUNTIME_DIRECTORY, else /run/loopd
};

// Takes the arguments apart. Nothing: --help or --version was answered, or the
// arguments are wrong and that was said; `exit_code` tells which.
std::optional<CommandLine> parse_command_line(int argc, char** argv, int& exit_code);

}  // namespace loopd
