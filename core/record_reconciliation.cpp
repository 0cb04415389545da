// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/record_reconciliation.hpp"

#include <utility>

#include "core/device_settings.hpp"
#include "core/error.hpp"
#include "core/holders.hpp"
#include "core/intent_check.hpp"
#include "core/removal.hpp"
#include "core/snapshot_reading.hpp"

namespace loop {
namespace {

// Killed in the middle of a removal, the service has left a device that would
// vanish at its last close.
void take_back_detach(LoopManager& loops, FileHelpers& helpers, AttachmentRecord& record) {
  try {
    const auto way = helpers.way(record.served_locally, record.owner);
    set_autoclear(way->kernel(), record.number, record.disk_sequence, false);
    record.detaching = false;
    loops.records()->write(record);
  } catch (const Error&) {
    // Gone by now.
  }
}

void undo(const AttachmentRecord& intent, uint64_t attached, LoopManager& loops, FileHelpers& helpers) {
  if (attached == intent.disk_sequence) return;
  if (loops.records()->find(attached)) return;  // it was completed
  try {
    const auto way = helpers.way(intent.served_locally, intent.owner);
    if (is_of_intent(way->kernel(), intent, attached)) remove(way->manager(), intent.number, attached);
  } catch (const Error&) {
    // In use by now, or no helper to ask: it stays, and belongs to nobody.
  }
}

}  // namespace

void undo_unfinished_attaches(LoopManager& loops, FileHelpers& helpers) {
  loops.records()->erase_scratch();
  for (const AttachmentRecord& intent : loops.records()->intents()) {
    const auto attached = attached_sequence(loops.kernel(), intent.number);
    if (!attached && !find_holders(loops.kernel(), intent.number).empty()) {
      // A helper of the service before still waits in LOOP_CONFIGURE.
      loops.avoid(intent.number);
      continue;
    }
    if (attached) undo(intent, *attached, loops, helpers);
    loops.records()->erase_intent(intent.number);  // last: killed before, this is begun again
  }
}

std::optional<AttachmentRecord> reconcile_record(LoopManager& loops, FileHelpers& helpers,
                                                 uint64_t disk_sequence) {
  auto record = loops.records()->find(disk_sequence);
  if (!record) return std::nullopt;
  const auto attached = attached_sequence(loops.kernel(), record->number);
  if (attached && *attached == disk_sequence) {
    if (record->detaching) take_back_detach(loops, helpers, *record);
    return record;
  }
  loops.records()->erase(disk_sequence);
  if (!attached && record->keeps_partitions) loops.delete_leftover_partitions(record->number);
  return std::nullopt;
}

}  // namespace loop
