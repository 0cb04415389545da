// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/mounts.hpp"

#include <sys/sysmacros.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "core/host_root.hpp"

namespace loop {

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

std::vector<Mount> mounts() {
  std::vector<Mount> found;
  std::ifstream mountinfo(host_mount_table());
  std::string line;
  while (std::getline(mountinfo, line)) {
    // id parent major:minor root mount-point options tags… - type source super-options
    std::istringstream fields(line);
    std::string id, parent, device, root, mount_point;
    fields >> id >> parent >> device >> root >> mount_point;
    const auto separator = line.find(" - ");
    const auto colon = device.find(':');
    if (!fields || separator == std::string::npos || colon == std::string::npos) continue;
    std::istringstream rest(line.substr(separator + 3));
    std::string type, source;
    rest >> type >> source;
    Mount mount;
    mount.id = std::atoi(id.c_str());
    mount.type = type;
    mount.dev = makedev(static_cast<unsigned>(std::stoul(device.substr(0, colon))),
                        static_cast<unsigned>(std::stoul(device.substr(colon + 1))));
    mount.mount_point = undo_octal_escapes(mount_point);
    mount.source = undo_octal_escapes(source);
    found.push_back(std::move(mount));
  }
  return found;
}

}  // namespace loop
