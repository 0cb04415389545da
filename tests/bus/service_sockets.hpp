// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

#include "core/unique_fd.hpp"
#include "tests/bus/child_process.hpp"

namespace bus_test {

// Receives sd_notify's messages.
loop::UniqueFd make_notify_socket(const std::string& path);

// What the socket unit makes: listens, for root alone.
loop::UniqueFd make_private_socket(const std::string& path);

// False: it ended first, or takes too long.
bool wait_for_ready(ChildProcess& process, int notifications);

}  // namespace bus_test
