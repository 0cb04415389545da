// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <chrono>

namespace loop {

// What udev's probing of a device may take: to be waited for before a device
// counts as busy. A mount or swap is not waited for.
inline constexpr std::chrono::milliseconds probing_patience{100};

struct RemovalOptions {
  bool lazy = false;       // detach when the last user lets go
  bool keep_node = false;  // leave the unbound node for reuse
};

}  // namespace loop
