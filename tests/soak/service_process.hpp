// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace soak {

// What a process holds, by /proc.
std::vector<std::string> open_descriptors(pid_t process);  // what each leads to, sorted

// Those that are open now and were not before. What an earlier look saw too much of, as
// it came in the midst of a call, is no difference.
std::vector<std::string> descriptors_since(const std::vector<std::string>& before, pid_t process);

uint64_t resident_kib(pid_t process);

// Files in the state directory: LOOPD_… of each, by name.
std::map<std::string, std::map<std::string, std::string>> state_files(const std::string& directory);

}  // namespace soak
