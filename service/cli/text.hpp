// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Values as people write and read them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace loopctl {

// A whole number; throws UsageError naming the option.
uint64_t parse_number(const std::string& option, const std::string& text, uint64_t largest);

// Bytes, also with a suffix: 4096, 512K, 10MiB, 2G (powers of 1024).
uint64_t parse_size(const std::string& option, const std::string& text);

// yes, no, true, false, on, off, 1, 0.
bool parse_truth(const std::string& option, const std::string& text);

// "64M", "1.5G", "513B".
std::string human_size(uint64_t bytes);

// Columns that the text takes on a terminal.
size_t display_width(const std::string& text);

// No part is empty.
std::vector<std::string> split(std::string_view text, char separator);
std::string join(const std::vector<std::string>& parts, std::string_view separator);

}  // namespace loopctl
