// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <optional>
#include <string_view>

namespace loopd {

// What an object path of the contract says: /org/example/Loop1/loop3, or …/loop3/p1.
struct ParsedPath {
  unsigned device = 0;
  std::optional<unsigned> partition;
};

// Nothing for any other path; also for another spelling of a number (loop03).
std::optional<ParsedPath> parse_path(std::string_view path);

}  // namespace loopd
