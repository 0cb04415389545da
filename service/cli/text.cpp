// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/text.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <limits>

#include "core/value_text.hpp"
#include "core/whole_number.hpp"
#include "service/cli/verb.hpp"

namespace loopctl {
namespace {

constexpr std::string_view units = "KMGTPE";

}  // namespace

uint64_t parse_number(const std::string& option, const std::string& text, uint64_t largest) {
  uint64_t value = 0;
  if (!loop::is_whole_number(text, value) || value > largest) {
    throw UsageError(option + ": '" + text + "' is no whole number up to " + std::to_string(largest));
  }
  return value;
}

uint64_t parse_size(const std::string& option, const std::string& text) {
  const auto size = loop::parse_size(text);
  if (!size || size->exceeds(std::numeric_limits<uint64_t>::max())) {
    throw UsageError(option + ": '" + text + "' is no size; give bytes, or a number with K, M, G, T, P or E");
  }
  return size->bytes();
}

bool parse_truth(const std::string& option, const std::string& text) {
  if (const auto truth = loop::parse_truth(text)) return *truth;
  throw UsageError(option + ": '" + text + "' is neither yes nor no");
}

std::string human_size(uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + "B";
  unsigned shift = 10;
  size_t unit = 0;
  while (unit + 1 < units.size() && bytes >> shift >= 1024) {
    shift += 10;
    ++unit;
  }
  const double value = static_cast<double>(bytes) / static_cast<double>(uint64_t{1} << shift);
  const bool whole = bytes % (uint64_t{1} << shift) == 0;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.*f%c", whole ? 0 : 1, value, units[unit]);
  return text.data();
}

size_t display_width(const std::string& text) {
  std::wstring wide(text.size(), L'\0');
  const size_t length = std::mbstowcs(wide.data(), text.c_str(), wide.size());
  if (length == static_cast<size_t>(-1)) return text.size();
  const int width = ::wcswidth(wide.data(), length);
  return width < 0 ? text.size() : static_cast<size_t>(width);
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string joined;
  for (const std::string& part : parts) {
    if (!joined.empty()) joined += separator;
    joined += part;
  }
  return joined;
}

}  // namespace loopctl
