// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <vector>

#include "core/attachment_records.hpp"
#include "core/file_helpers.hpp"
#include "core/loop_manager.hpp"

namespace loop {

// Makes the records of `loops` true to the kernel, for a service that starts: those whose
// attachments are gone are erased, and what the service before was killed in the midst of is
// undone, be it an attach or a removal. To be called when nothing else attaches or removes
// by these records: theirs would be taken for what was left.
//
// Returns the records whose attachments were there. Any attachment may be gone by now:
// detached by somebody else, or at a last close before its removal was taken back.
//
// Waits for file systems' servers by way of `helpers`.
std::vector<AttachmentRecord> reconcile_records(LoopManager& loops, FileHelpers& helpers);

}  // namespace loop
