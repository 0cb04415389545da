// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "core/attach_request.hpp"
#include "core/attachment_records.hpp"
#include "core/device_snapshot.hpp"
#include "core/free_numbers.hpp"
#include "core/loop_kernel.hpp"
#include "core/node_deletion.hpp"
#include "core/number_claims.hpp"
#include "core/partition.hpp"
#include "core/snapshot_reading.hpp"

namespace loop {

class LoopManager;

// A file that was just attached and, until commit(), is detached again by the
// destructor: whatever fails between the kernel's yes and the answer to the
// caller leaves nothing behind. Undoing may block; destroy it on a worker.
class Attachment {
 public:
  Attachment(Attachment&& other) noexcept;
  Attachment& operator=(Attachment&&) = delete;
  ~Attachment();

  const DeviceSnapshot& snapshot() const { return snapshot_; }
  const AttachmentRecord& record() const { return record_; }
  const std::vector<TableEntry>& partitions() const { return partitions_; }

  // From here on the device stays. Hands over the claim on its number, to be
  // released when whoever follows events knows the device.
  NumberClaims::Claim commit();

  // What the manager needs to live on with this, should it have to undo.
  void keep_alive(std::shared_ptr<void> what) { keeps_alive_ = std::move(what); }

  // For an autoclear device, which would detach at the last close: the
  // descriptor that holds it. Null for any other.
  std::unique_ptr<LoopNode> take_holder() { return std::move(holder_); }

 private:
  friend class LoopManager;
  explicit Attachment(LoopManager& manager) : manager_(&manager) {}

  LoopManager* manager_;  // null once committed or moved from
  NumberClaims::Claim claim_;
  std::unique_ptr<LoopNode> node_;  // open and locked while attach() works
  std::unique_ptr<LoopNode> holder_;
  bool made_node_ = false;
  bool bound_ = false;
  bool lost_ = false;  // the device, to somebody who is not waited for
  bool from_free_numbers_ = false;
  std::shared_ptr<void> keeps_alive_;
  DeviceSnapshot snapshot_;
  AttachmentRecord record_;
  std::vector<TableEntry> partitions_;
};

// Attaches files to loop devices. Thread-safe: calls for different files and
// numbers run side by side. Borrows the kernel and, if given, the records; both
// outlive it.
class LoopManager {
 public:
  explicit LoopManager(LoopKernel& kernel, AttachmentRecords* records = nullptr);

  // Validates, attaches, verifies and adds partitions. May block on the backing
  // file's file system. Throws Error; then nothing is attached and a node that
  // this made is gone. The request's file is not needed by the device
  // afterwards.
  Attachment attach(const AttachRequest& request);

  // Deletes the partitions that an attachment which is gone left on the number.
  // Does nothing where the device is attached again, in use, or absent.
  void delete_leftover_partitions(unsigned number);
  // And waits for those who have one open, as udev has that looks at it. False: not in time.
  bool delete_leftover_partitions(unsigned number, Deadline deadline);

  // The same by another way to the same kernel: shares claims and records.
  LoopManager(LoopManager& other, LoopKernel& kernel)
      : kernel_(kernel),
        records_(other.records_),
        free_numbers_(other.free_numbers_),
        claims_(other.claims_),
        avoided_(other.avoided_) {}

  // From here on a free number is found there, and where none is known a new one is made: for whoever follows
  // the kernel's events, and keeps them true. Without, the kernel is asked. Borrowed.
  void use_free_numbers(FreeNumbers& numbers) { free_numbers_ = &numbers; }

  // Never to be opened, though the kernel calls it free: what holds it makes every
  // open wait. Until forgiven.
  void avoid(unsigned number);
  bool is_avoided(unsigned number) const { return avoided_->claimed(number); }
  void forgive(unsigned number);

  NumberClaims& claims() { return *claims_; }
  NumberClaims::Claim claim(unsigned number) { return {claims_, number}; }
  LoopKernel& kernel() { return kernel_; }
  AttachmentRecords* records() { return records_; }

 private:
  friend class Attachment;

  // `lost`: numbers that somebody else was seen to have won.
  bool open_free_node(const AttachRequest& request, Attachment& attachment, const std::set<unsigned>& lost);
  int offer_number(LoopControl& control, Attachment& attachment, bool& fresh);
  bool is_taken(unsigned number) const;
  std::optional<unsigned> find_free_above(unsigned offered, const std::set<unsigned>& lost) const;
  bool configure(const AttachRequest& request, const BackingFile& file, unsigned block_size,
                 Attachment& attachment);
  void verify(const AttachRequest& request, unsigned block_size, Attachment& attachment);
  void add_partitions(Attachment& attachment);
  void undo(Attachment& attachment) noexcept;

  LoopKernel& kernel_;
  AttachmentRecords* records_;
  FreeNumbers* free_numbers_ = nullptr;
  std::shared_ptr<NumberClaims> claims_ = std::make_shared<NumberClaims>();
  std::shared_ptr<NumberClaims> avoided_ = std::make_shared<NumberClaims>();  // never released
  std::mutex allocation_;  // GET_FREE, open and lock: two threads would get one number
};

}  // namespace loop
