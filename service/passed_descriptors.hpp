// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <vector>

#include "core/unique_fd.hpp"

namespace loopd {

// What the service manager hands over at the start.
struct PassedDescriptors {
  std::vector<loop::UniqueFd> listeners;  // Unix stream sockets that listen
  loop::UniqueFd host_root;               // the host's root directory, by the name "hostroot"
  loop::UniqueFd nodes;                   // of make_node_directory(), by the name "nodes"
};

// Takes them; a second call gives nothing. What is unknown is closed, with a
// warning.
PassedDescriptors take_passed_descriptors();

}  // namespace loopd
