// SPDX-License-Identifier: LGPL-2.1-or-later
#include "units/unit_text.hpp"

namespace units {
namespace {

bool is_plain(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
         std::string_view(":_.").find(c) != std::string_view::npos;
}

// Between quotes; the characters in `doubled` stand for themselves when they are there twice.
std::string quote(std::string_view text, std::string_view doubled) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (doubled.find(c) != std::string_view::npos) quoted += c;
    quoted += c;
  }
  return quoted + '"';
}

}  // namespace

std::string escape_name(std::string_view text) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string escaped;
  for (const char c : text) {
    if (c == '/') {
      escaped += '-';
    } else if (!is_plain(c) || (c == '.' && escaped.empty())) {
      const auto byte = static_cast<unsigned char>(c);
      escaped += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string escape_path(std::string_view path) { return path == "/" ? "-" : escape_name(path.substr(1)); }

std::string quote_word(std::string_view word) { return quote(word, "%"); }

std::string quote_argument(std::string_view argument) { return quote(argument, "%$"); }

std::string escape_specifiers(std::string_view text) {
  std::string escaped;
  for (const char c : text) escaped += c == '%' ? "%%" : std::string(1, c);
  return escaped;
}

}  // namespace units
