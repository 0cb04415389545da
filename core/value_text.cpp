// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/value_text.hpp"

#include <charconv>
#include <system_error>

namespace loop {

std::optional<WrittenSize> parse_size(std::string_view text) {
  constexpr std::string_view units = "KMGTPE";
  WrittenSize size;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, size.number);
  if (result.ec != std::errc()) return std::nullopt;
  std::string_view suffix(result.ptr, static_cast<size_t>(end - result.ptr));
  if (suffix.empty()) return size;
  const size_t unit = units.find(suffix[0]);
  suffix.remove_prefix(1);
  if (unit == units.npos || (!suffix.empty() && suffix != "iB")) return std::nullopt;
  size.shift = static_cast<unsigned>(unit + 1) * 10;
  return size;
}

std::optional<bool> parse_truth(std::string_view text) {
  for (const char* yes : {"yes", "true", "on", "1"}) {
    if (text == yes) return true;
  }
  for (const char* no : {"no", "false", "off", "0"}) {
    if (text == no) return false;
  }
  return std::nullopt;
}

}  // namespace loop
