// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/loop_manager.hpp"

#include <linux/loop.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/file_birth.hpp"
#include "core/loop_control.hpp"
#include "core/node_deletion.hpp"
#include "core/partition_table.hpp"
#include "core/partitioning.hpp"

namespace loop {
namespace {

using namespace std::chrono_literals;

// Each attempt loses to somebody who won a device: that many in a row means that
// something else is wrong.
constexpr int attach_attempts = 64;

// How far above the number that the kernel offers a free node is looked for.
constexpr unsigned search_width = 128;

// How long udev may hold the lock of a node that has to be this one.
constexpr auto lock_patience = 5s;

// How long openers may keep a device from being given back after a failure.
constexpr auto undo_patience = 5s;

bool older_than(const LoopKernel& kernel, int major, int minor) {
  return kernel.version() < std::pair(major, minor);
}

std::string version_text(const LoopKernel& kernel) {
  const auto [major, minor] = kernel.version();
  return std::to_string(major) + "." + std::to_string(minor);
}

[[noreturn]] void throw_configure_error(const LoopKernel& kernel, int error, const BackingFile& file,
                                        unsigned number) {
  // Before 5.8 the ioctl is unknown: EINVAL or ENOTTY, by version.
  if ((error == EINVAL || error == ENOTTY) && older_than(kernel, 5, 8)) {
    throw Error(Errc::not_supported,
                "attaching needs Linux 5.8 or later (LOOP_CONFIGURE), this is " + version_text(kernel));
  }
  if (error == ETIME) {
    throw Error(Errc::timeout, "file: its file system does not answer");
  }
  if (error == EBADF) {
    throw Error(Errc::invalid_argument,
                "file: is " + kernel_name(number) + " itself, or a loop device that leads back to it");
  }
  if (error == EINVAL && file.identity.block_device) {
    throw Error(Errc::invalid_argument, "file: is a loop device without a backing file");
  }
  if (error == EOVERFLOW) {
    throw Error(Errc::invalid_argument, "offset: is larger than the kernel can map");
  }
  throw Error(Errc::failed, error, "LOOP_CONFIGURE of " + kernel_name(number));
}

bool may_be_transient(int r) {
  // A fresh or vanishing node, while udev works on it.
  return r == -ENXIO || r == -ENOENT || r == -EACCES || r == -EBUSY;
}

void wait_for_lock(LoopKernel& kernel, LoopNode& node, unsigned number) {
  std::unique_ptr<UseWatch> watch;
  if (const int r = kernel.watch_use(number, watch); r < 0) {
    throw Error(Errc::failed, -r, "cannot watch " + kernel_name(number));
  }
  const Deadline deadline = deadline_in(lock_patience);
  // Never a blocking flock: whoever holds it may hold it for ever.
  while (node.try_lock() < 0) {
    if (!wait_for_use_change(*watch, deadline)) {
      throw Error(Errc::device_busy, kernel_name(number) + ": another process holds its lock");
    }
  }
}

// False: a kernel before 5.15, which has none.
bool read_sequence(const LoopNode& node, unsigned number, uint64_t& sequence) {
  const int r = node.disk_sequence(sequence);
  if (r < 0 && r != -ENOTTY) throw Error(Errc::failed, -r, "BLKGETDISKSEQ of " + kernel_name(number));
  return r >= 0;
}

}  // namespace

Attachment::Attachment(Attachment&& other) noexcept
    : manager_(std::exchange(other.manager_, nullptr)),
      claim_(std::move(other.claim_)),
      node_(std::move(other.node_)),
      holder_(std::move(other.holder_)),
      made_node_(other.made_node_),
      bound_(other.bound_),
      lost_(other.lost_),
      from_free_numbers_(other.from_free_numbers_),
      keeps_alive_(std::move(other.keeps_alive_)),
      snapshot_(std::move(other.snapshot_)),
      record_(std::move(other.record_)),
      partitions_(std::move(other.partitions_)) {}

Attachment::~Attachment() {
  if (manager_) manager_->undo(*this);
}

NumberClaims::Claim Attachment::commit() {
  manager_ = nullptr;
  return std::move(claim_);
}

LoopManager::LoopManager(LoopKernel& kernel, AttachmentRecords* records)
    : kernel_(kernel), records_(records) {}

Attachment LoopManager::attach(const AttachRequest& request) {
  const BackingFile file = kernel_.inspect_file(request.file.get());
  validate(request, file);
  const unsigned block_size =
      request.probe_block_size ? kernel_.find_image_block_size(request, file) : request.block_size;
  std::set<unsigned> lost;
  for (int attempt = 0; attempt < attach_attempts; ++attempt) {
    Attachment attachment(*this);
    if (!open_free_node(request, attachment, lost) || !configure(request, file, block_size, attachment)) {
      // Somebody is at the number that the kernel calls free, and it would offer
      // it again and again.
      lost.insert(attachment.snapshot_.number);
      attachment.lost_ = true;
      continue;
    }
    verify(request, block_size, attachment);
    if (request.partition_scan == PartitionScan::service) {
      add_partitions(attachment);
    }
    if (request.autoclear) {
      const int r = kernel_.open_node(attachment.snapshot_.number, NodeAccess::read_only, attachment.holder_);
      if (r < 0) throw Error(Errc::failed, -r, "cannot hold " + attachment.snapshot_.dev_path());
    }
    // Before anybody hears of it: no file system is mounted beside an open writer where the kernel is built
    // without CONFIG_BLK_DEV_WRITE_MOUNTED.
    attachment.node_.reset();
    return attachment;
  }
  if (request.number) {
    throw Error(Errc::device_busy, kernel_name(*request.number) + ": is in use");
  }
  throw Error(Errc::no_free_device, "no loop device could be had: other processes took each one first");
}

// Finds a device, opens it and locks it. False: lost it to somebody, try another.
bool LoopManager::open_free_node(const AttachRequest& request, Attachment& attachment,
                                 const std::set<unsigned>& lost) {
  const auto control = open_loop_control(kernel_);
  const unsigned static_devices = kernel_.static_devices();  // throws, if at all, while there is no node
  DeviceSnapshot& snapshot = attachment.snapshot_;
  bool fresh = false;
  {
    // LOOP_CTL_GET_FREE reserves nothing. Lock order: loop-control, then the
    // device; both dropped or held only for moments, never across LOOP_CONFIGURE,
    // which may wait for a file system. systemd takes the same lock; one who
    // holds it for long is not waited for, losing the race costs a retry only.
    const std::lock_guard own_threads(allocation_);
    const bool locked = control->try_lock() == 0;
    int number = 0;
    if (request.number) {
      const int r = control->add(static_cast<int>(*request.number));
      if (r < 0 && r != -EEXIST) {
        throw Error(Errc::failed, -r, "cannot make " + kernel_name(*request.number));
      }
      number = static_cast<int>(*request.number);
      attachment.made_node_ = r >= 0;
    } else {
      // Where there is none, one is made: not to be asked for one that will not be used.
      if (lost.empty()) number = offer_number(*control, attachment, fresh);
      if (!lost.empty() || (number >= 0 && is_taken(static_cast<unsigned>(number)))) {
        const unsigned offered = lost.empty() ? static_cast<unsigned>(number) : *lost.begin();
        const auto other = find_free_above(offered, lost);
        fresh = !other;
        number = other ? static_cast<int>(*other) : control->add(-1);
      }
      if (number < 0) {
        throw Error(Errc::no_free_device, -number, "the kernel gives no free loop device");
      }
      // The kernel doesn't say whether it made the device for us; what is above
      // the static ones serves nobody while it is unbound.
      attachment.made_node_ = fresh || static_cast<unsigned>(number) >= static_devices;
    }
    snapshot.number = static_cast<unsigned>(number);
    // LOOP_CONFIGURE may wait for a file's server, and opening the device waits
    // with it; the kernel calls it free all the while.
    if (is_taken(snapshot.number)) {
      if (locked) control->unlock();
      attachment.made_node_ = false;
      if (!request.number) return false;
      throw Error(Errc::device_busy,
                  "number: another file is just being attached to " + kernel_name(snapshot.number));
    }
    const int r = kernel_.open_node(
        snapshot.number, request.read_only ? NodeAccess::read_only : NodeAccess::configure, attachment.node_);
    const int lock = r < 0 ? 0 : attachment.node_->try_lock();
    if (locked) control->unlock();
    if (r < 0 && !may_be_transient(r)) {
      throw Error(Errc::failed, -r, "cannot open " + snapshot.dev_path());
    }
    if (r < 0) return false;
    // Also while it is waited for: the kernel calls it free, and another thread would lock it first.
    if (lock == 0 || request.number || fresh) attachment.claim_ = claim(snapshot.number);
    if (lock == 0) return true;
  }
  if (!request.number && !fresh) {
    attachment.made_node_ = false;  // whoever has locked it is going to use it
    return false;
  }
  wait_for_lock(kernel_, *attachment.node_, snapshot.number);
  return true;
}

// The lowest number that is free, or a new one, or -errno. The kernel does not say which of them it is.
int LoopManager::offer_number(LoopControl& control, Attachment& attachment, bool& fresh) {
  if (free_numbers_ == nullptr) return control.get_free();
  if (const auto known = free_numbers_->take()) {
    attachment.from_free_numbers_ = true;
    return static_cast<int>(*known);
  }
  fresh = true;
  return control.add(-1);
}

// The kernel calls a number free until LOOP_CONFIGURE has bound it.
bool LoopManager::is_taken(unsigned number) const {
  return claims_->claimed(number) || avoided_->claimed(number);
}

// The kernel offers the same lowest number to everybody who asks at the same time. A
// free node above it is better than a new one, which is an event, work for udev, and a disk
// more that stays. Whether it is still free shows when it is bound.
std::optional<unsigned> LoopManager::find_free_above(unsigned offered, const std::set<unsigned>& lost) const {
  for (unsigned number = offered + 1; number <= offered + search_width; ++number) {
    if (is_taken(number) || lost.contains(number) || kernel_.has_attribute(number, "loop")) continue;
    if (!kernel_.has_attribute(number, "dev")) return {};
    return number;
  }
  return {};
}

// False: somebody else attached something to the device first.
bool LoopManager::configure(const AttachRequest& request, const BackingFile& file, unsigned block_size,
                            Attachment& attachment) {
  LoopNode& node = *attachment.node_;
  DeviceSnapshot& snapshot = attachment.snapshot_;
  if (kernel_.has_attribute(snapshot.number, "loop")) {
    if (request.number) {
      throw Error(Errc::device_busy, "number: " + kernel_name(snapshot.number) + " is attached already");
    }
    attachment.made_node_ = false;
    return false;
  }
  // Partitions that BLKPG added outlive a detach by somebody else, and would
  // show the new file's data under the old file's table.
  delete_partitions(kernel_, node, snapshot.number);

  AttachmentRecord& record = attachment.record_;
  static_cast<AttachmentTerms&>(record) = request.terms;
  record.number = snapshot.number;
  record.backing = file.identity;
  record.backing_birth = birth_of_file(request.file.get());
  record.reference = request.reference;
  record.keeps_partitions = request.partition_scan == PartitionScan::service;
  const bool has_sequence = read_sequence(node, snapshot.number, record.disk_sequence);
  // Below 5.15 nothing names an attachment, so nothing can be said of it later.
  const bool keep_record = records_ != nullptr && has_sequence;
  if (keep_record) records_->write_intent(record);

  loop_config config{};
  config.fd = static_cast<__u32>(request.file.get());
  config.block_size = block_size;
  config.info.lo_offset = request.offset;
  config.info.lo_sizelimit = request.size_limit;
  std::memcpy(config.info.lo_file_name, request.reference.data(), request.reference.size());
  if (request.read_only) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
  if (request.autoclear) config.info.lo_flags |= LO_FLAGS_AUTOCLEAR;
  if (request.direct_io) config.info.lo_flags |= LO_FLAGS_DIRECT_IO;
  if (request.partition_scan == PartitionScan::kernel) config.info.lo_flags |= LO_FLAGS_PARTSCAN;

  const int r = node.configure(config);
  if (r < 0) {
    // ETIME: the helper undoes it, should it still come to be. Until then the
    // intent tells a service that starts meanwhile not to touch the number.
    if (r == -ETIME) {
      attachment.lost_ = true;
      avoid(snapshot.number);
    } else if (keep_record) {
      records_->erase_intent(snapshot.number);
    }
    if (r != -EBUSY) throw_configure_error(kernel_, -r, file, snapshot.number);
    if (kernel_.has_attribute(snapshot.number, "loop")) attachment.made_node_ = false;
    return false;
  }
  attachment.bound_ = true;
  read_sequence(node, snapshot.number, snapshot.disk_sequence);
  record.disk_sequence = snapshot.disk_sequence;
  if (keep_record) records_->commit_intent(record);
  // Not before: udev's rules read the record, and udev waits for this lock. Not after: udev that finds it
  // locked comes back in 200 ms, and who waits for the partitions waits for udev.
  node.unlock();
  return true;
}

// The kernel's yes is not yet what was asked for: 5.8 itself ignored the size
// limit, read-only is forced silently.
void LoopManager::verify(const AttachRequest& request, unsigned block_size, Attachment& attachment) {
  LoopNode& node = *attachment.node_;
  DeviceSnapshot& snapshot = attachment.snapshot_;
  loop_info64 info{};
  if (const int r = node.status(info); r < 0) {
    throw Error(Errc::failed, -r, "LOOP_GET_STATUS64 of " + snapshot.dev_path());
  }
  if (info.lo_offset != request.offset || info.lo_sizelimit != request.size_limit) {
    info.lo_offset = request.offset;
    info.lo_sizelimit = request.size_limit;
    const int set = node.set_status(info);
    const int got = set < 0 ? set : node.status(info);
    if (got < 0) throw Error(Errc::failed, -got, "setting the range of " + snapshot.dev_path());
  }
  if (!request.read_only && (info.lo_flags & LO_FLAGS_READ_ONLY) != 0) {
    throw Error(Errc::not_writable, "file: the kernel attached it read-only; ask for read-only");
  }
  int r = node.size(snapshot.size);
  if (r >= 0) r = node.block_size(snapshot.block_size);
  if (r < 0) throw Error(Errc::failed, -r, "reading the size of " + snapshot.dev_path());
  if (snapshot.size == 0 || (request.size_limit != 0 && snapshot.size > request.size_limit)) {
    throw Error(Errc::failed, snapshot.dev_path() + ": the kernel attached " + std::to_string(snapshot.size) +
                                  " bytes instead of the range asked for");
  }
  if (block_size != 0 && snapshot.block_size != block_size) {
    throw Error(Errc::failed, "block-size: the kernel uses " + std::to_string(snapshot.block_size) +
                                  " instead of " + std::to_string(block_size));
  }
  snapshot.dev = node.device_number();
  if (!read_backing_file(kernel_, snapshot)) {
    throw Error(Errc::failed, snapshot.dev_path() + ": was detached by somebody else at once");
  }
  apply_status(info, snapshot);
  if (kernel_.may_look_at_files()) look_at_backing_file(snapshot);
}

void LoopManager::add_partitions(Attachment& attachment) {
  const unsigned number = attachment.snapshot_.number;
  if (older_than(kernel_, 6, 5)) {
    // A scan that is still due would drop what is added here at the next open.
    std::unique_ptr<LoopNode> opened;
    kernel_.open_node(number, NodeAccess::read_only, opened);
  }
  const PartitionTable table = read_partition_table(attachment.node_->fd(), attachment.snapshot_.block_size);
  attachment.partitions_ = loop::add_partitions(kernel_, *attachment.node_, number,
                                                usable_entries(table, attachment.snapshot_.size));
}

void LoopManager::undo(Attachment& attachment) noexcept {
  const DeviceSnapshot& snapshot = attachment.snapshot_;
  try {
    const Deadline deadline = deadline_in(attachment.lost_ ? 0s : undo_patience);
    if (attachment.bound_) {
      std::unique_ptr<UseWatch> watch;
      kernel_.watch_use(snapshot.number, watch);  // before the look, so that no close is missed
      // One that was never closed holds the device since LOOP_CONFIGURE.
      bool ours = attachment.node_ != nullptr;
      if (!ours && kernel_.open_node(snapshot.number, NodeAccess::read_only, attachment.node_) >= 0) {
        uint64_t sequence = 0;
        ours = attachment.node_->disk_sequence(sequence) < 0 || sequence == snapshot.disk_sequence;
      }
      // Only now: of an autoclear device this may be the last close, and what is
      // gone cannot be asked whether it is still this attachment.
      attachment.holder_.reset();
      if (ours) {
        // ETIME: a helper that does not answer. It undoes when it comes back.
        ours = attachment.node_->clear() != -ETIME;
        if (ours) delete_partitions(kernel_, *attachment.node_, snapshot.number);
      }
      // While the device is still ours: nobody else has an intent for it.
      if (records_ && ours) records_->erase_intent(snapshot.number);
      attachment.node_.reset();
      // Where udev is just probing, the file goes with its close, and the node
      // cannot be deleted before.
      const auto attached = [&] { return is_attached(kernel_, snapshot.number, snapshot.disk_sequence); };
      while (ours && watch && attached() && wait_for_use_change(*watch, deadline)) {
      }
      // Not before it is gone: udev's rules read whose it is. What stays is for the next start.
      if (records_ && !attached()) records_->erase(snapshot.disk_sequence);
      // Of a node that stays, those that udev had open before.
      if (ours && !attachment.made_node_) delete_leftover_partitions(snapshot.number, deadline);
    }
    attachment.node_.reset();
    if (attachment.made_node_) {
      delete_node(kernel_, snapshot.number, deadline);
    } else if (attachment.from_free_numbers_ && !attachment.bound_ && !attachment.lost_) {
      free_numbers_->note(snapshot.number, true);  // nothing was done to it that makes an event
    }
  } catch (...) {
    // The device is unbound, or will be at its last close; the node is all that
    // may stay, for the next one who asks the kernel for a free device.
  }
}

void LoopManager::avoid(unsigned number) {
  const std::lock_guard lock(allocation_);
  if (!avoided_->claimed(number)) avoided_->claim(number);
}

void LoopManager::forgive(unsigned number) {
  const std::lock_guard lock(allocation_);
  if (avoided_->claimed(number)) avoided_->release(number);
}

void LoopManager::delete_leftover_partitions(unsigned number) {
  if (kernel_.partitions(number).empty()) return;
  std::unique_ptr<LoopNode> node;
  // Exclusive: LOOP_CONFIGURE is refused meanwhile, so that these cannot become
  // the partitions of a new file between the check and the deletion.
  if (kernel_.open_node(number, NodeAccess::read_exclusive, node) < 0) return;
  if (kernel_.has_attribute(number, "loop")) return;
  delete_partitions(kernel_, *node, number);
}

bool LoopManager::delete_leftover_partitions(unsigned number, Deadline deadline) {
  const auto done = [&] {
    return kernel_.partitions(number).empty() || kernel_.has_attribute(number, "loop");
  };
  std::unique_ptr<UseWatch> watch;
  if (!done()) kernel_.watch_use(number, watch);  // before the first try, so that no close is missed
  for (;;) {
    delete_leftover_partitions(number);
    if (done()) return true;
    if (!watch || !wait_for_use_change(*watch, deadline)) return false;
  }
}

}  // namespace loop
