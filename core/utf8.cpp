// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/utf8.hpp"

#include <algorithm>
#include <cstdint>

namespace loop {
namespace {

void append_escaped(std::string& out, char c) {
  static constexpr char digits[] = "0123456789abcdef";
  const auto byte = static_cast<uint8_t>(c);
  out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
}

// U+0080 to U+009F, which terminals obey as well.
bool is_c1_control(std::string_view text, size_t at) {
  if (text[at] != '\xc2' || at + 1 >= text.size()) return false;
  const auto second = static_cast<uint8_t>(text[at + 1]);
  return second >= 0x80 && second < 0xa0;
}

}  // namespace

size_t utf8_sequence_length(std::string_view bytes) {
  auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  auto continues = [&](size_t i) { return i < bytes.size() && (at(i) & 0xC0) == 0x80; };
  const uint8_t lead = at(0);
  if (lead == 0) return 0;
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    if (lead == 0xE0 && at(1) < 0xA0) return 0;
    if (lead == 0xED && at(1) > 0x9F) return 0;
    return 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (lead == 0xF0 && at(1) < 0x90) return 0;
    if (lead == 0xF4 && at(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

bool is_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t length = utf8_sequence_length(bytes);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

std::string escape_to_utf8(std::string_view bytes) {
  // Most texts are plain.
  const auto is_plain = [](char c) { return c > 0 && c < 0x7f && c != '\\'; };
  if (std::all_of(bytes.begin(), bytes.end(), is_plain)) return std::string(bytes);
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t length = utf8_sequence_length(bytes);
    if (length == 0) {
      append_escaped(text, bytes[0]);
      bytes.remove_prefix(1);
      continue;
    }
    if (bytes[0] == '\\') {
      text += '\\';
    }
    text += bytes.substr(0, length);
    bytes.remove_prefix(length);
  }
  return text;
}

std::string printable(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (is_c1_control(text, i)) {
      append_escaped(out, text[i]);
      append_escaped(out, text[++i]);
    } else if (byte < 0x20 || byte == 0x7f) {
      append_escaped(out, text[i]);
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace loop
