// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/mounts.hpp"

#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>
#include <optional>

#include "core/host_root.hpp"
#include "core/table_cache.hpp"
#include "core/whole_number.hpp"

namespace loop {
namespace {

// Takes the text's first field off it, and the space behind.
std::string_view take_field(std::string_view& text) {
  const auto end = std::min(text.find(' '), text.size());
  const std::string_view field = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return field;
}

// id parent major:minor root mount-point options tags… - type source super-options
std::optional<Mount> parse(std::string_view line) {
  const auto separator = line.find(" - ");
  if (separator == std::string_view::npos) return std::nullopt;
  std::string_view before = line.substr(0, separator);
  std::string_view behind = line.substr(separator + 3);
  unsigned id = 0;
  unsigned major = 0;
  unsigned minor = 0;
  if (!is_whole_number(take_field(before), id)) return std::nullopt;
  take_field(before);  // the parent
  const std::string_view device = take_field(before);
  const auto colon = device.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  if (!is_whole_number(device.substr(0, colon), major) || !is_whole_number(device.substr(colon + 1), minor))
    return std::nullopt;
  take_field(before);  // the root
  Mount mount;
  mount.id = static_cast<int>(id);
  mount.dev = makedev(major, minor);
  mount.mount_point = undo_octal_escapes(take_field(before));
  mount.type = take_field(behind);
  mount.source = undo_octal_escapes(take_field(behind));
  return mount;
}

std::optional<std::vector<Mount>> read_mounts(const std::string& path) {
  std::ifstream mountinfo(path);
  if (!mountinfo) return std::nullopt;
  std::vector<Mount> found;
  std::string line;
  while (std::getline(mountinfo, line)) {
    if (auto mount = parse(line)) found.push_back(std::move(*mount));
  }
  return found;
}

}  // namespace

std::string undo_octal_escapes(std::string_view text) {
  auto is_octal = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '7'; };
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && is_octal(i + 1) && is_octal(i + 2) && is_octal(i + 3)) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

std::shared_ptr<const std::vector<Mount>> mounts() {
  static TableCache<Mount> table(read_mounts);
  return table.rows(host_mount_table());
}

}  // namespace loop
