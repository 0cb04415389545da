// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <charconv>
#include <string_view>
#include <system_error>

namespace loop {

// Whether all of the text is one decimal number that fits, which is stored then.
template <typename Integer>
bool is_whole_number(std::string_view text, Integer& value) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end;
}

}  // namespace loop
