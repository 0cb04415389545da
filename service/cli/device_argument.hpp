// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Devices as people name them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "service/cli/facts.hpp"

namespace loopctl {

struct NamedDevice {
  sdbus::ObjectPath object;
  std::string node;
  uint32_t number = 0;
  uint64_t disk_sequence = 0;  // names the attachment; 0: the kernel has none
};

NamedDevice named(const DeviceFacts& facts);

// What the name may mean: a node, a link to one, a partition ("/dev/loop3", "loop3",
// "3", "/dev/disk/by-…"); a reference; the path of a backing file, also of one that
// was deleted. Throws Failure where it means nothing.
std::vector<NamedDevice> find_devices(Session& session, const std::string& name);

// The one that it means; Failure names the candidates where there are several.
NamedDevice find_device(Session& session, const std::string& name);

// Every device that is backed by the file at a path, newest first; none is an empty
// list. Throws Failure where there is no such file.
std::vector<NamedDevice> find_devices_of_file(Session& session, const std::string& path);

// As the service needs it: from the root, and of no link.
std::string absolute_path(const std::string& path);

}  // namespace loopctl
