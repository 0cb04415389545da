// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace soak {

// The choices of one client: the same for the same seed.
class Chance {
 public:
  Chance(uint64_t seed, uint64_t whose) : engine_(seed * 0x9E3779B97F4A7C15U + whose) {}

  uint64_t below(uint64_t limit) { return engine_() % limit; }
  uint64_t between(uint64_t least, uint64_t most) { return least + below(most - least + 1); }
  bool one_in(uint64_t many) { return below(many) == 0; }
  uint64_t bits() { return engine_(); }

  template <typename T>
  const T& pick(const std::vector<T>& from) {
    return from[below(from.size())];
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace soak
