// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "service/cli/session.hpp"

namespace loopctl {

// Who uses a device, "mounted at /mnt (loop3p1)", as far as this program may see: with
// its user's rights, which may be more or less than the service's. Nobody on another
// machine.
std::vector<std::string> visible_holders(const Session& session, uint32_t number);

}  // namespace loopctl
