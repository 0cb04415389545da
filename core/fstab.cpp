// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/fstab.hpp"

#include <algorithm>
#include <array>
#include <sstream>

#include "core/mounts.hpp"

namespace loop {
namespace {

// What systemd mounts in remote-fs.target.
constexpr std::array<std::string_view, 17> network_types{
    "afs",   "ceph", "cifs", "davfs", "gfs",   "gfs2", "glusterfs", "lustre", "ncp",
    "ncpfs", "nfs",  "nfs4", "ocfs2", "pvfs2", "smb3", "smbfs",     "sshfs"};

std::vector<std::string> split_options(const std::string& text) {
  std::vector<std::string> options;
  std::istringstream rest(text);
  for (std::string option; std::getline(rest, option, ',');) {
    if (!option.empty()) options.push_back(option);
  }
  return options;
}

std::string without_final_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

bool FstabLine::has_option(std::string_view name) const {
  return std::any_of(options.begin(), options.end(), [&](const std::string& option) {
    return option == name || (option.starts_with(name) && option[name.size()] == '=');
  });
}

bool FstabLine::is_on_network() const {
  const std::string_view bare = type.starts_with("fuse.") ? std::string_view(type).substr(5) : type;
  return has_option("_netdev") ||
         std::find(network_types.begin(), network_types.end(), bare) != network_types.end();
}

std::vector<FstabLine> parse_fstab(std::string_view text) {
  std::vector<FstabLine> found;
  std::istringstream lines{std::string(text)};
  unsigned number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::istringstream fields(line);
    std::string source, mount_point, type, options;
    fields >> source >> mount_point >> type;
    if (!fields || source.starts_with('#')) continue;
    fields >> options;
    found.push_back({number, undo_octal_escapes(source),
                     without_final_slashes(undo_octal_escapes(mount_point)), type,
                     split_options(undo_octal_escapes(options))});
  }
  return found;
}

bool is_at_or_below(std::string_view path, std::string_view directory) {
  if (directory == "/") return path.starts_with('/');
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

}  // namespace loop
