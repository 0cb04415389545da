// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace loop {

inline constexpr const char* fstab_path = "/etc/fstab";

// A line of fstab(5), escapes undone.
struct FstabLine {
  unsigned line = 0;        // from 1
  std::string source;       // as written: a path, or UUID=…
  std::string mount_point;  // "none" or "swap" for swap
  std::string type;
  std::vector<std::string> options;

  bool has_option(std::string_view name) const;  // with or without a value

  // Mounted when the network is there, as systemd sees it: the option _netdev, or the
  // type of a file system on the network.
  bool is_on_network() const;
};

// Lines that make no sense are left out: systemd tells of them.
std::vector<FstabLine> parse_fstab(std::string_view text);

// Whether `path` is `directory` or lies below it. Both absolute, and simple.
bool is_at_or_below(std::string_view path, std::string_view directory);

}  // namespace loop
