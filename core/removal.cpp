// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/removal.hpp"

#include <linux/loop.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "core/error.hpp"
#include "core/holders.hpp"
#include "core/open_attachment.hpp"
#include "core/partitioning.hpp"

namespace loop {

// The device's status as it was before anything was armed.
struct SavedStatus {
  loop_info64 info{};
};

namespace {

bool has_requests_under_way(const LoopKernel& kernel, unsigned number) {
  const auto inflight = kernel.attribute(number, "inflight");  // "       0        0"
  return inflight && inflight->find_first_not_of(" 0\t") != std::string::npos;
}

}  // namespace

Removal::Removal(LoopManager& manager, unsigned number, uint64_t disk_sequence, RemovalOptions options)
    : manager_(manager), number_(number), disk_sequence_(disk_sequence), options_(options) {}

Removal::~Removal() {
  try {
    give_way();
  } catch (const Error&) {
    // The kernel did not take the detach back; a destructor can't tell anybody.
  }
}

// Opens the device and remembers its state. False: a mount or swap holds it.
bool Removal::open() {
  LoopKernel& kernel = manager_.kernel();
  // O_EXCL sees mounts, in any namespace, and swap, and changes nothing. Never
  // writable: its close would make udev look at the device.
  const NodeAccess access = options_.lazy ? NodeAccess::read_only : NodeAccess::read_exclusive;
  auto saved = std::make_unique<SavedStatus>();
  auto node = open_attachment(kernel, number_, disk_sequence_, access, saved->info);
  if (!node) return false;
  if (disk_sequence_ == 0) {
    const int r = node->disk_sequence(disk_sequence_);
    if (r < 0 && r != -ENOTTY) throw Error(Errc::failed, -r, "BLKGETDISKSEQ of " + name());
  }
  saved_ = std::move(saved);
  node_ = std::move(node);
  return true;
}

Removal::State Removal::attempt() {
  if (watch_) {
    watch_->drain();
    return attempt_once();
  }
  // Most devices are nobody's by now, and need no watch. Where there is one, it is there
  // before the look, so that no close is missed.
  const State state = attempt_once();
  if (state != State::busy) return state;
  manager_.kernel().watch_use(number_, watch_);
  return attempt_once();
}

Removal::State Removal::attempt_once() {
  if (!node_) {
    exclusively_held_ = !open();
    if (exclusively_held_) return State::busy;
  }
  if (!options_.lazy && !armed_ && has_requests_under_way(manager_.kernel(), number_)) {
    // Taking back freezes the queue, and would hang with a backing file whose
    // server does not answer. Who has requests under way uses the device.
    return State::busy;
  }
  return detach();
}

Removal::State Removal::detach() {
  // A writer that closes while somebody else (udev, say) has the device open does
  // not write back, and in rundown the kernel answers our own close's write-back
  // with EIO. A failure is no reason to keep the device: nothing that is tried
  // later would bring the data to the file.
  node_->write_back();
  // As the only opener, the first call makes the kernel refuse newcomers (since
  // 6.11; before, it unbinds at once), and the second answers ENXIO.
  int r = node_->clear();
  if (r == 0) {
    // If somebody else has it open, AUTOCLEAR is armed now, but the kernel can't
    // act on it while this descriptor is open.
    armed_ = !options_.lazy;
    r = node_->clear();
  }
  if (r == -ENXIO) {
    armed_ = false;
    return State::detached;
  }
  if (r < 0) {
    if (give_way() == State::detached) return State::detached;
    throw Error(Errc::failed, -r, "LOOP_CLR_FD of " + name());
  }
  if (options_.lazy) {
    node_.reset();
    return State::deferred;
  }
  note_detaching(true);
  return State::busy;
}

// Killed between here and give_way(), this process would leave a device that
// vanishes at its last close; the next one finds the note and takes it back.
void Removal::note_detaching(bool detaching) {
  AttachmentRecords* records = manager_.records();
  const bool was_autoclear = (saved_->info.lo_flags & LO_FLAGS_AUTOCLEAR) != 0;
  if (!records || disk_sequence_ == 0 || was_autoclear) return;
  const auto known = records->find(disk_sequence_);
  AttachmentRecord record = known.value_or(AttachmentRecord());
  record.number = number_;
  record.disk_sequence = disk_sequence_;
  record.detaching = detaching;
  try {
    if (known || detaching) records->write(record);
  } catch (const Error&) {
    // Without the note, a kill just now is what it is without records.
  }
}

Removal::State Removal::give_way() {
  if (armed_) {
    armed_ = false;
    const int r = node_->set_status(saved_->info);
    if (r == -ENXIO) return State::detached;  // committed after all; the node stays open for finish()
    if (r < 0) {
      node_.reset();
      throw Error(Errc::failed, -r, name() + ": is in use, and taking the detach back failed");
    }
    note_detaching(false);
  }
  node_.reset();
  return State::busy;
}

bool Removal::wait(Deadline deadline) { return watch_ && wait_for_use_change(*watch_, deadline); }

bool Removal::may_pass() const {
  if (exclusively_held_) return false;
  const std::vector<Holder> holders = find_holders(manager_.kernel(), number_);
  return std::all_of(holders.begin(), holders.end(), [](const Holder& holder) { return holder.udev; });
}

void Removal::refuse() const {
  throw Error(Errc::device_busy, name() + " is in use: " + describe_holders(manager_.kernel(), number_));
}

void Removal::finish(Deadline deadline) {
  LoopKernel& kernel = manager_.kernel();
  // On this descriptor: newcomers get ENXIO meanwhile.
  const bool all_deleted = delete_partitions(kernel, *node_, number_);
  node_.reset();  // the detach itself, done when close returns
  // An opener in the very middle of its open keeps it until it closes.
  while (is_attached(kernel, number_, disk_sequence_)) {
    if (!watch_ && kernel.watch_use(number_, watch_) == 0) continue;  // it may have closed before
    if (!watch_ || !wait_for_use_change(*watch_, deadline)) {
      throw Error(Errc::failed,
                  name() + ": is detached, but a process opened it at that moment and holds it");
    }
  }
  // Not before it is gone: udev's rules read whose it is.
  if (manager_.records()) manager_.records()->erase(disk_sequence_);
  if (!options_.keep_node) return delete_node(kernel, number_, deadline);
  // Before 6.11 newcomers are let in, and udev may be one of them.
  if (!all_deleted && !manager_.delete_leftover_partitions(number_, deadline)) {
    throw Error(Errc::failed, name() + ": is detached, but a process holds a partition of it open");
  }
}

void remove(LoopManager& manager, unsigned number, uint64_t disk_sequence, RemovalOptions options,
            std::chrono::milliseconds patience) {
  const auto claim = manager.claim(number);
  Removal removal(manager, number, disk_sequence, options);
  const Deadline deadline = deadline_in(patience);
  const Deadline last_probing = deadline_in(longest_probing_patience);
  Removal::State state = Removal::State::busy;
  for (;;) {
    const Deadline probing_deadline = deadline_in(probing_patience);
    do {
      state = removal.attempt();
    } while (state == Removal::State::busy && !removal.exclusively_held() && removal.wait(probing_deadline));
    if (state == Removal::State::busy) state = removal.give_way();
    if (state != Removal::State::busy) break;
    const Deadline until = std::chrono::steady_clock::now() < last_probing && removal.may_pass()
                               ? std::max(deadline, last_probing)
                               : deadline;
    const bool hopeless = removal.exclusively_held() && patience <= probing_patience;
    if (hopeless || !removal.wait(until)) removal.refuse();
  }
  if (state == Removal::State::deferred) return;
  removal.finish(deadline_in(finish_patience));
}

}  // namespace loop
