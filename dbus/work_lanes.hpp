// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <chrono>

#include "dbus/scheduler.hpp"

namespace loopd {

// Of work that waits for the kernel alone, whoever wants it.
inline constexpr WorkLane kernel_lane{0, false};

// Looks at devices are no user's: who waits for a file's server does not hold up what everybody is told.
inline constexpr WorkLane look_lane{static_cast<uid_t>(-1), true};

// The same for looks that do wait for such a server: they hold up none of the others.
inline constexpr WorkLane server_lane{static_cast<uid_t>(-2), true};

// Who answers later than this is published without what only its backing file's
// server can tell.
inline constexpr std::chrono::seconds describe_patience{2};

}  // namespace loopd
