// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Nodes of loop devices that nobody else sees.
//
// udevd watches the nodes in /dev. When a descriptor that was open for writing is closed
// it takes the device's content for changed: it looks at all of it once more, and tells
// everybody. LOOP_CONFIGURE wants such a descriptor and changes nothing that the kernel's
// own event of it does not tell. By a node of another directory there is that event alone.
//
// Internal to the library.
#pragma once

#include <sys/types.h>

#include "core/unique_fd.hpp"

namespace loop {

enum class Nodes {
  as_needed,  // made by open_unwatched(), which needs CAP_MKNOD then
  prepared,   // of the first 256 loop devices, in a directory that cannot be written to
};

// A file system in memory, mounted nowhere, in which device nodes work: an open directory.
// None, with errno: before Linux 5.12, without CAP_SYS_ADMIN (and CAP_MKNOD, to prepare nodes).
// In a user namespace there is one, but no node can be made in it.
UniqueFd make_node_directory(Nodes nodes);

// Opens a block device for reading and writing by a node below `directory`. Where there is none
// it is made, and gone again when this returns. 0 or -errno.
int open_unwatched(int directory, dev_t device, UniqueFd& fd);

}  // namespace loop
