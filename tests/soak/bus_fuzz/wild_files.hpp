// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <vector>

#include "core/unique_fd.hpp"
#include "tests/soak/bus_fuzz/territory.hpp"
#include "tests/soak/chance.hpp"

namespace soak {

// Name of memory files; the loop devices on them are known by it.
inline constexpr const char* memory_file_name = "loopd-bus-fuzz";

// Descriptors of every kind that a client can send. They are opened by who sends them; what that
// user may not open is replaced by another kind.
class WildFiles {
 public:
  explicit WildFiles(const Territory& territory);

  // Of an image, mostly open for reading and writing.
  int image(Chance& chance);
  int any(Chance& chance);

  // What was given so far is not used any more.
  void forget() { momentary_.clear(); }

 private:
  int opened(const char* path, int flags);

  const Territory& territory_;
  std::vector<loop::UniqueFd> images_;
  std::vector<loop::UniqueFd> others_;
  std::vector<loop::UniqueFd> momentary_;
};

}  // namespace soak
