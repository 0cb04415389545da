// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace loop {

// Bytes of the well-formed sequence at the start of a text that is not empty; 0 if
// there is none. No overlong forms, no surrogates, nothing above U+10FFFF, no zero
// byte: what D-Bus accepts in a string.
size_t utf8_sequence_length(std::string_view bytes);

bool is_utf8(std::string_view bytes);

// Printable as one UTF-8 string: a byte that is part of no UTF-8 sequence
// becomes \xNN, a backslash becomes two.
std::string escape_to_utf8(std::string_view bytes);

// Control characters of a UTF-8 text as \xNN, for tables, terminals and logs: names of files
// come from anybody, and must not begin a line or speak to the terminal.
std::string printable(std::string_view text);

}  // namespace loop
