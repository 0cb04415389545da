// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/attach_operations.hpp"

#include <memory>
#include <optional>
#include <utility>

#include "core/error.hpp"
#include "core/utf8.hpp"
#include "dbus/errors.hpp"
#include "dbus/file_devices.hpp"
#include "dbus/method_table.hpp"
#include "dbus/names.hpp"

namespace loopd {

// One more device of a user and one more reference, from the decision until the
// device is published and counted there.
class AttachOperations::Reservation {
 public:
  Reservation(AttachOperations& operations, uid_t uid, std::string reference)
      : operations_(operations), uid_(uid), reference_(std::move(reference)) {
    const size_t devices =
        operations_.context_.parts.registry.count_owned_by(uid_) + operations_.attaching_.of(uid_);
    if (uid_ != 0 && devices >= operations_.context_.limits.devices_per_user) {
      throw_limits("user " + std::to_string(uid_) + " has " + std::to_string(devices) +
                   " devices attached, which is the limit");
    }
    check_reference();
    attaching_.emplace(operations_.attaching_.add(uid_));
    if (!reference_.empty()) operations_.pending_references_.insert(reference_);
  }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  ~Reservation() {
    if (!reference_.empty()) operations_.pending_references_.erase(reference_);
  }

 private:
  void check_reference() const {
    if (reference_.empty()) return;
    const OperationContext::Parts& parts = operations_.context_.parts;
    for (const Device* device : parts.registry.find_reference(reference_)) {
      const loop::DeviceSnapshot& s = device->snapshot;
      if (!is_attached(parts.loops.kernel(), *device)) continue;
      throw_invalid("reference: '" + reference_ + "' is in use by loop" + std::to_string(s.number));
    }
    if (operations_.pending_references_.contains(reference_)) {
      throw_invalid("reference: '" + reference_ + "' is in use by a device that is just being attached");
    }
  }

  AttachOperations& operations_;
  uid_t uid_;
  std::string reference_;
  std::optional<UserCounts::One> attaching_;
};

Task<std::string> AttachOperations::attach(Caller caller, loop::UniqueFd file, Options options) {
  const auto call = context_.file_call(caller.uid);
  AttachOptions decoded = decode_attach_options(options);
  loop::validate_reference(decoded.request.reference);
  const Action action = find_method(manager_interface, "Attach")->action;
  co_await context_.authorize_on_file(caller, action, "Attach", file.get());
  std::string path = co_await attach_file(caller, std::move(file), std::move(decoded));
  co_return path;
}

Task<std::string> AttachOperations::attach_path(Caller caller, std::string path, Options options) {
  const auto call = context_.file_call(caller.uid);
  AttachOptions decoded = decode_attach_options(options);
  loop::validate_reference(decoded.request.reference);
  require_absolute(path);
  // Before the file is looked for: what exists where is not everybody's business.
  AuthorizationDetails details{{"operation", "AttachPath"}, {"backing-file", path}};
  co_await context_.authorize(caller, find_method(manager_interface, "AttachPath")->action,
                              std::move(details));

  const auto open = context_.path_opening(caller.uid, path, decoded.request.read_only);
  loop::UniqueFd file = co_await context_.on_patient_worker(WorkLane{caller.uid, true}, "path", open);
  std::string object = co_await attach_file(caller, std::move(file), std::move(decoded));
  co_return object;
}

Task<std::string> AttachOperations::attach_file(Caller caller, loop::UniqueFd file, AttachOptions options) {
  loop::AttachRequest request = std::move(options.request);
  co_await authorize_reference(caller, request, file.get());
  const loop::FileIdentity identity = loop::identify_file(file.get());
  const bool chosen = request.number && *request.number <= loop::max_loop_number;
  // Whoever is at work on the number is waited for without the file, which others want, too.
  if (chosen) co_await context_.numbers.acquire(*request.number);
  const auto file_lock = co_await files_.acquire(identity);
  co_await context_.parts.follower.catch_up();
  request.terms.served_locally = context_.locality.is_served_locally(file.get(), identity);
  request.file = std::move(file);
  if (options.reuse && request.probe_block_size) co_await probe_block_size(caller.uid, request);

  const FileDevices devices(context_.parts.registry, context_.parts.loops.kernel(), identity);
  if (options.reuse) {
    if (const Device* device = devices.reusable(options, request, caller.uid)) co_return device->path();
  }
  if (!options.allow_overlap) devices.refuse_conflict(request);
  promise(caller, options.lease, request.terms);

  const Reservation reservation(*this, caller.uid, request.reference);
  NumberLocks::Lock number_lock;
  if (chosen) number_lock = take_number(*request.number);
  loop::Attachment attachment = co_await attach_in_kernel(std::move(request));
  // A removal of the attachment before may still be to be answered.
  if (!chosen) number_lock = co_await context_.numbers.acquire(attachment.snapshot().number);
  co_await wait_until_ready(attachment);
  co_await refuse_too_many_partitions(attachment);
  const Target target = publish(attachment);
  std::string path = context_.require_device(target).path();
  number_lock.release();
  // Left while the kernel was at work: nobody heard of the device that was to come.
  if (options.lease && !caller.clientele->is_known(caller.name)) co_await removing_.end_lease(target);
  co_return path;
}

NumberLocks::Lock AttachOperations::take_number(unsigned number) {
  auto lock = context_.numbers.acquire_at_once(number);
  if (!lock) {
    throw loop::Error(loop::Errc::device_busy,
                      "number: " + loop::kernel_name(number) + " is just being attached, changed or removed");
  }
  return std::move(*lock);
}

Task<void> AttachOperations::authorize_reference(Caller caller, const loop::AttachRequest& request,
                                                 int file) {
  if (request.reference.empty()) co_return;
  co_await context_.authorize_on_file(caller, Action::set_reference, "set-reference", file);
}

// Which block size the image is made for is asked of the image, for reuse.
Task<void> AttachOperations::probe_block_size(uid_t uid, loop::AttachRequest& request) {
  const auto look = [&helpers = context_.parts.helpers, uid,
                     request = std::make_shared<loop::AttachRequest>(loop::copy_of(request))] {
    const auto way = helpers.way(request->terms.served_locally, uid);
    const loop::BackingFile file = way->kernel().inspect_file(request->file.get());
    loop::validate(*request, file);
    return way->kernel().find_image_block_size(*request, file);
  };
  request.block_size = co_await context_.on_patient_worker(WorkLane{uid, true}, "file", look);
  request.probe_block_size = false;
}

// What is to hold beside what the kernel keeps.
void AttachOperations::promise(const Caller& caller, bool lease, loop::AttachmentTerms& terms) const {
  terms.owner = caller.uid;
  if (!lease) return;
  terms.lease = caller.name;
  terms.lease_bus = caller.clientele->id();
}

// The request goes with the work: the descriptor is closed on the worker, where
// closing may wait for the file's server. Should the kernel say yes when nobody
// waits any more, the attachment undoes itself there.
Task<loop::Attachment> AttachOperations::attach_in_kernel(loop::AttachRequest request) {
  const uid_t uid = request.terms.owner;
  auto work = [&helpers = context_.parts.helpers, &scheduler = context_.parts.scheduler,
               &follower = context_.parts.follower,
               shared = std::make_shared<loop::AttachRequest>(std::move(request))] {
    const std::shared_ptr<loop::KernelWay> way =
        helpers.way(shared->terms.served_locally, shared->terms.owner);
    try {
      loop::Attachment attached = way->manager().attach(*shared);
      attached.keep_alive(way);
      return attached;
    } catch (...) {
      // Whether or not anybody still waits: the claims that it had are gone by now.
      scheduler.post([&follower] { follower.settle(); });
      throw;
    }
  };
  loop::Attachment attachment =
      co_await context_.on_patient_worker(WorkLane{uid, true}, "file", std::move(work));
  co_return attachment;
}

Task<void> AttachOperations::undo(loop::Attachment& attachment) {
  const unsigned number = attachment.snapshot().number;
  const auto work = [shared = std::make_shared<loop::Attachment>(std::move(attachment))]() mutable {
    shared.reset();
  };
  co_await on_worker(context_.parts.scheduler, kernel_lane, work);
  context_.parts.follower.settle(number);
}

// Undoes the attachment where udev is not done with its partitions in time.
Task<void> AttachOperations::wait_until_ready(loop::Attachment& attachment) {
  const unsigned number = attachment.snapshot().number;
  const bool ready = co_await context_.parts.follower.wait_for_udev(
      number, attachment.snapshot().disk_sequence, attachment.partitions());
  if (ready) co_return;
  co_await undo(attachment);
  throw loop::Error(loop::Errc::timeout,
                    loop::kernel_name(number) + ": udev did not finish with its partitions in time");
}

// Asked at the moment of publishing, which is when they count: what is attached beside this one
// comes before it or after it.
Task<void> AttachOperations::refuse_too_many_partitions(loop::Attachment& attachment) {
  const uid_t owner = attachment.record().owner;
  const size_t wanted = attachment.partitions().size();
  const size_t room = context_.parts.follower.partition_quota().room_for(attachment.snapshot().number, owner);
  if (wanted <= room) co_return;
  co_await undo(attachment);
  throw_limits("the table has " + std::to_string(wanted) + " partitions, and the devices of user " +
               std::to_string(owner) + " may have " + std::to_string(room) + " more");
}

// From here on the device stays.
Target AttachOperations::publish(loop::Attachment& attachment) {
  const Target target{attachment.snapshot().number, attachment.snapshot().disk_sequence};
  context_.parts.follower.publish(attachment);
  context_.log_soon("attached " + loop::escape_to_utf8(attachment.snapshot().backing_file) + " to " +
                    loop::kernel_name(target.number) + " for user " +
                    std::to_string(attachment.record().owner));
  attachment.commit().release();
  context_.parts.follower.settle();
  return target;
}

}  // namespace loopd
