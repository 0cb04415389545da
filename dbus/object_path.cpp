// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/object_path.hpp"

#include <charconv>

#include "dbus/names.hpp"

namespace loopd {
namespace {

bool take_text(std::string_view& rest, std::string_view text) {
  if (!rest.starts_with(text)) return false;
  rest.remove_prefix(text.size());
  return true;
}

bool take_number(std::string_view& rest, unsigned& number) {
  const char* end = rest.data() + rest.size();
  const auto [after, error] = std::from_chars(rest.data(), end, number);
  const auto length = static_cast<size_t>(after - rest.data());
  if (error != std::errc() || (length > 1 && rest.front() == '0')) return false;
  rest.remove_prefix(length);
  return true;
}

}  // namespace

std::optional<ParsedPath> parse_path(std::string_view path) {
  ParsedPath parsed;
  if (!take_text(path, root_path) || !take_text(path, "/loop") || !take_number(path, parsed.device))
    return {};
  if (path.empty()) return parsed;
  unsigned partition = 0;
  if (!take_text(path, "/p") || !take_number(path, partition) || !path.empty()) return {};
  parsed.partition = partition;
  return parsed;
}

}  // namespace loopd
