// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <vector>

#include "tests/bus/bus_client.hpp"
#include "tests/soak/world.hpp"

namespace soak {

// Holds against each other what was promised, what the kernel has, what the service
// shows and what its state directory says, while nobody changes any of it. Gives
// what does not agree.
std::vector<std::string> disagreements(bus_test::BusClient& root, const Promises& promises,
                                       const std::string& state_directory);

}  // namespace soak
