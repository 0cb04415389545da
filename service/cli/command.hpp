// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Commands that loopctl runs for its user.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace loopctl {

using Environment = std::map<std::string, std::string>;

// Becomes the command. Returns, with the exit code, only where it cannot, which is said.
int become_command(const std::vector<std::string>& command, const Environment& added);

// Runs it and waits for it; its exit code, 128 + N where signal N has ended it. The
// terminal's signals are the command's while it runs.
int run_command(const std::vector<std::string>& command, const Environment& added);

// Waits until somebody ends this program: Ctrl-C, SIGTERM, SIGHUP.
void wait_for_end();

}  // namespace loopctl
