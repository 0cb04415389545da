// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>

namespace loop {

// When a regular file came to be, in nanoseconds since 1970: what it has and the next one with its
// inode has not. 0 where its file system does not know. Asks the kernel alone.
int64_t birth_of_file(int fd);

}  // namespace loop
