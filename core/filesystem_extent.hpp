// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <optional>

namespace loop {

// How many bytes from the start of a device its file system uses, as its own
// superblock says: ext2/3/4, XFS, btrfs. Nothing for any other, or for none.
// (libblkid tells this from 2.39 on; statvfs leaves out the file system's own
// structures.) `fd` is borrowed.
std::optional<uint64_t> filesystem_extent(int fd);

}  // namespace loop
