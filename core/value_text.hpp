// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace loop {

// Values as people write them, the same in looptab and on the command line.

// A number and its unit: 512K is 512 << 10. What is too large is the caller's to
// say.
struct WrittenSize {
  uint64_t number = 0;
  unsigned shift = 0;

  bool exceeds(uint64_t largest_bytes) const { return number > largest_bytes >> shift; }
  uint64_t bytes() const { return number << shift; }
};

// Bytes, or with K, M, G, T, P or E, also followed by iB (powers of 1024). Nothing
// for anything else.
std::optional<WrittenSize> parse_size(std::string_view text);

// yes, true, on, 1; no, false, off, 0. Nothing for anything else.
std::optional<bool> parse_truth(std::string_view text);

}  // namespace loop
