// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <vector>

#include "tests/bus/bus_client.hpp"
#include "tests/soak/world.hpp"

namespace soak {

// Whether a client made this file, which it attaches by the service alone; what the neighbours
// have comes and goes.
bool is_of_a_client(const std::string& file);

// Holds against each other what was promised, what the kernel has, what the service
// shows and what its state directory says, while nobody changes any of it. Gives
// what does not agree.
std::vector<std::string> disagreements(bus_test::BusClient& root, const Promises& promises,
                                       const std::string& state_directory);

}  // namespace soak
