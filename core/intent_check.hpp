// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>

#include "core/attachment_records.hpp"

namespace loop {

class LoopKernel;

// Whether what is attached to the intent's number, with that disk sequence, is what the intent was written
// for. The device and inode of a file are not enough: whoever got no answer deletes the file, and the next
// one to be made has its inode; where that is attached to the number, which is free again, it is somebody
// else's. So a file that is where its path leads must have been born when the intent says, and what another
// tool attached is known by what it writes where the reference is. For a file that is deleted itself, these
// last two have to do. What cannot be asked is not of the intent: a device that stays is seen. May block on
// the backing file's server.
bool is_of_intent(LoopKernel& kernel, const AttachmentRecord& intent, uint64_t disk_sequence);

}  // namespace loop
