// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Options stand before or behind the verb and its arguments, up to "--".
#pragma once

#include <span>

#include "service/cli/verb.hpp"

namespace loopctl {

// Every verb, in the order of the help; "list" is the default.
std::span<const Verb* const> verbs();

struct CommandLine {
  const Verb* verb = nullptr;  // the sub-verb, where there are such
  std::string name;            // "attach", "tab check"
  Invocation invocation;
  bool help = false;
  bool version = false;
};

// Throws UsageError.
CommandLine parse_command_line(int argc, char** argv);

// The help of loopctl, or of the verb alone.
void print_help();
void print_help(const Verb& verb, const std::string& name);

}  // namespace loopctl
