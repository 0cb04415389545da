// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <string_view>

namespace loop {

bool is_utf8(std::string_view bytes);

// Printable as one UTF-8 string: a byte that is part of no UTF-8 sequence
// becomes \xNN, a backslash becomes two.
std::string escape_to_utf8(std::string_view bytes);

}  // namespace loop
