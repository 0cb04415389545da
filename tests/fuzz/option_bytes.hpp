// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How the bytes of an input choose the entries of a dictionary of options.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace loop::testing {

// Those that the methods take; the last one stands for any other.
inline constexpr std::array option_keys{
    "offset",    "size-limit",    "block-size", "block-size-auto", "read-only", "partition-scan", "direct-io",
    "reference", "number",        "reuse",      "allow-overlap",   "lease",     "autoclear",      "lazy",
    "keep-node", "disk-sequence", "timeout",    "force",           ""};
inline constexpr std::array option_types{"y", "n", "q", "b", "i", "u",  "x",  "t",
                                         "d", "s", "o", "g", "h", "ay", "as", "v"};

// Takes bytes off the front; zeros when there are none.
class Bytes {
 public:
  explicit Bytes(std::string_view bytes) : rest_(bytes) {}

  bool empty() const { return rest_.empty(); }
  std::string take(size_t most) {
    std::string taken(rest_.substr(0, most));
    rest_.remove_prefix(taken.size());
    return taken;
  }
  uint8_t byte() { return empty() ? uint8_t{0} : static_cast<uint8_t>(take(1)[0]); }
  std::string text() { return take(byte()); }
  std::string key() {
    const uint8_t chosen = byte();
    return chosen < option_keys.size() ? option_keys[chosen] : text();
  }
  std::string type() { return option_types[byte() % option_types.size()]; }

 private:
  std::string_view rest_;
};

}  // namespace loop::testing
