// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>

#include "core/attachment_records.hpp"

namespace loop {

class LoopKernel;

// Whether what is attached to the intent's number, with that disk sequence, is what the intent was written
// for. The device and inode of a file are not enough: whoever got no answer deletes the file, and the next
// one to be made has its inode; where that is attached to the number, which is free again, it is somebody
// else's. Doubt says no: a device that stays is seen, one that goes is not there any more. May block on the
// backing file's server.
bool is_of_intent(LoopKernel& kernel, const AttachmentRecord& intent, uint64_t disk_sequence);

}  // namespace loop
