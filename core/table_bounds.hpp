// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "core/partition_table.hpp"

namespace loop {

// libblkid believes what a table says of its own length: it would read a GPT of four
// gigabytes into memory, and follow a chain of a million extended boot records, for
// each of which it looks at all before. Whoever may attach an image writes its table,
// so that the length is looked at first. Throws Error invalid_argument for a table
// that is longer than any real one. `sector_size` in bytes.
void refuse_endless_table(int fd, unsigned sector_size, DiskRange range);

}  // namespace loop
