// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How names, paths and words are written in unit files: systemd.unit(5),
// systemd.service(5).
#pragma once

#include <string>
#include <string_view>

namespace units {

// For a part of a unit's name, as systemd-escape does.
std::string escape_name(std::string_view text);

// For a unit that is named by a path, as systemd-escape --path does. The path is
// absolute, and simple.
std::string escape_path(std::string_view path);

// One word of a setting that takes words, such as RequiresMountsFor=.
std::string quote_word(std::string_view word);

// One argument of a command line: no variable is put in either.
std::string quote_argument(std::string_view argument);

// A whole value that is no list: '%' is not a specifier.
std::string escape_specifiers(std::string_view text);

}  // namespace units
