// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <system_error>

namespace loopd {

// For libsystemd's results, 0 or more, or -errno: throws std::system_error with what
// could not be done.
inline void check(int result, const char* what) {
  if (result < 0) throw std::system_error(-result, std::generic_category(), what);
}

}  // namespace loopd
