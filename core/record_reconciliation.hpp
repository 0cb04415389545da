// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <optional>

#include "core/attachment_records.hpp"
#include "core/file_helpers.hpp"
#include "core/loop_manager.hpp"

namespace loop {

// For a service that starts: makes the records of `loops` true to the kernel, and undoes what the service
// before was killed in the midst of. To be called when nothing else attaches or removes by these records:
// theirs would be taken for what was left. Both wait for file systems' servers by way of `helpers`.

// Attaches that were never answered.
void undo_unfinished_attaches(LoopManager& loops, FileHelpers& helpers);

// One record: erased, if its attachment is gone; else returned, and a detach that was begun is taken back.
// The attachment may be gone by now: detached by somebody else, or at a last close before that.
std::optional<AttachmentRecord> reconcile_record(LoopManager& loops, FileHelpers& helpers,
                                                 uint64_t disk_sequence);

}  // namespace loop
