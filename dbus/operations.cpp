// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/operations.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "core/device_name.hpp"
#include "core/device_settings.hpp"
#include "core/error.hpp"
#include "core/file_locality.hpp"
#include "core/overlap.hpp"
#include "core/partitioning.hpp"
#include "core/removal.hpp"
#include "core/utf8.hpp"
#include "dbus/errors.hpp"
#include "dbus/method_table.hpp"
#include "dbus/names.hpp"

namespace loopd {
namespace {

constexpr WorkLane kernel_lane{0, false};

// What the kernel says of every user that a user namespace has no mapping for:
// many people, so never an owner.
constexpr uid_t unmapped_uid = 65534;

// For polkit's dialog and rules. The link's text alone: looking at the file may
// wait for its server.
std::string describe_file(int fd) {
  std::array<char, 4096> target{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  return length <= 0 ? "" : loop::escape_to_utf8({target.data(), static_cast<size_t>(length)});
}

loop::Error file_timeout(const std::string& what) {
  return {loop::Errc::timeout, what + ": the file system of the backing file does not answer"};
}

}  // namespace

namespace {

// The loop manager by way of a helper process.
struct HelperWay {
  std::unique_ptr<loop::HelperKernel> kernel;
  loop::LoopManager loops;

  HelperWay(loop::LoopManager& direct, loop::FileHelpers& helpers, uid_t uid)
      : kernel(helpers.start(uid)), loops(direct, *kernel) {}
};

}  // namespace

// One more call of a user that may wait for a file's server. Removing is not
// counted: it may go on in bulk.
class Operations::FileCall {
 public:
  FileCall(Operations& operations, uid_t uid) : operations_(operations), uid_(uid) {
    unsigned& under_way = operations_.file_calls_[uid_];
    if (uid_ != 0 && under_way >= operations_.limits_.file_calls_per_user) {
      throw_limits("user " + std::to_string(uid_) + " has " + std::to_string(under_way) +
                   " calls under way, which is the limit");
    }
    ++under_way;
  }
  FileCall(const FileCall&) = delete;
  FileCall& operator=(const FileCall&) = delete;
  ~FileCall() {
    if (--operations_.file_calls_[uid_] == 0) operations_.file_calls_.erase(uid_);
  }

 private:
  Operations& operations_;
  uid_t uid_;
};

// One more device of a user and one more reference, from the decision until the
// device is published and counted there.
class Operations::Reservation {
 public:
  Reservation(Operations& operations, uid_t uid, std::string reference)
      : operations_(operations), uid_(uid), reference_(std::move(reference)) {
    const size_t devices = operations_.parts_.registry.count_owned_by(uid_) + operations_.attaching_[uid_];
    if (uid_ != 0 && devices >= operations_.limits_.devices_per_user) {
      throw_limits("user " + std::to_string(uid_) + " has " + std::to_string(devices) +
                   " devices attached, which is the limit");
    }
    check_reference();
    ++operations_.attaching_[uid_];
    if (!reference_.empty()) operations_.pending_references_.insert(reference_);
  }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  ~Reservation() {
    if (--operations_.attaching_[uid_] == 0) operations_.attaching_.erase(uid_);
    if (!reference_.empty()) operations_.pending_references_.erase(reference_);
  }

 private:
  void check_reference() const {
    if (reference_.empty()) return;
    if (const auto number = operations_.parts_.registry.find_reference(reference_)) {
      throw_invalid("reference: '" + reference_ + "' is in use by loop" + std::to_string(*number));
    }
    if (operations_.pending_references_.contains(reference_)) {
      throw_invalid("reference: '" + reference_ + "' is in use by a device that is just being attached");
    }
  }

  Operations& operations_;
  uid_t uid_;
  std::string reference_;
};

// Kept for each file system, as it means reading the mount table.
bool Operations::is_served_locally(int fd, const loop::FileIdentity& file) {
  if (file.block_device) return true;
  const auto known = locality_.find(file.dev);
  if (known != locality_.end()) return known->second;
  const bool local = loop::is_served_locally(fd);
  locality_.emplace(file.dev, local);
  return local;
}

// Work for a worker: opens a backing file by path, in a helper process where the
// way to it may lead through a server that does not answer.
std::function<loop::UniqueFd()> Operations::path_opening(uid_t uid, std::string path, bool read_only) {
  return [&paths = parts_.paths, &helpers = parts_.helpers, uid, path = std::move(path), read_only] {
    if (paths.is_served_locally(path)) return paths.open(path, read_only);
    return helpers.start(uid)->open_path(paths.root(), path, read_only);
  };
}

Task<void> Operations::authorize(Caller caller, Action action, AuthorizationDetails details) {
  if (action == Action::none || caller.uid == 0) co_return;
  details.emplace("caller-uid", std::to_string(caller.uid));
  co_await caller.clientele->require(caller, action, std::move(details));
}

const Device& Operations::require_device(Target target) const {
  const std::string name = loop::kernel_name(target.number);
  const Device* device = parts_.registry.find(target.number);
  if (device == nullptr) throw loop::Error(loop::Errc::not_attached, name + ": is not attached any more");
  if (device->snapshot.disk_sequence != target.disk_sequence) {
    throw loop::Error(loop::Errc::stale, name + ": is another attachment by now");
  }
  return *device;
}

// The device may be another one after the answer: look again.
Task<void> Operations::authorize_on_device(Caller caller, std::string member, Target target) {
  const MethodRule& rule = *find_method(device_interface, member);
  const Device& device = require_device(target);
  if (rule.owner_may && caller.uid == device.terms.owner && caller.uid != unmapped_uid) co_return;
  AuthorizationDetails details{
      {"operation", member},
      {"device", device.snapshot.dev_path()},
      {"backing-file", loop::escape_to_utf8(device.snapshot.backing_file)},
      {"owner-uid", std::to_string(device.terms.owner)},
  };
  co_await authorize(caller, rule.action, std::move(details));
}

// Changes a device on a worker, alone on its number, and publishes what it is
// afterwards. The kernel checks the disk sequence once more.
template <typename Work>
auto Operations::work_on_device(Caller caller, Target target, Work work)
    -> Task<std::invoke_result_t<Work&, loop::LoopKernel&>> {
  using Result = std::invoke_result_t<Work&, loop::LoopKernel&>;
  const auto lock = co_await numbers_.acquire(target.number);
  require_device(target);
  const bool local = require_device(target).terms.served_locally;
  const auto job = [&kernel = parts_.loops.kernel(), &helpers = parts_.helpers, uid = caller.uid, local,
                    work]() mutable {
    if (local) return work(kernel);
    const auto helper = helpers.start(uid);
    return work(*helper);
  };
  Task<Result> task =
      on_worker(parts_.scheduler, WorkLane{caller.uid, true}, job, Clock::now() + limits_.file_patience);
  try {
    if constexpr (std::is_void_v<Result>) {
      co_await task;
    } else {
      Result result = co_await task;
      co_await parts_.follower.look(target.number);
      co_return result;
    }
  } catch (const WorkTimedOut&) {
    throw file_timeout(loop::kernel_name(target.number));
  }
  if constexpr (std::is_void_v<Result>) co_await parts_.follower.look(target.number);
}

Task<std::string> Operations::attach(Caller caller, loop::UniqueFd file, Options options) {
  const FileCall call(*this, caller.uid);
  AttachOptions decoded = decode_attach_options(options);
  loop::validate_reference(decoded.request.reference);
  AuthorizationDetails details{{"operation", "Attach"}, {"backing-file", describe_file(file.get())}};
  co_await authorize(caller, find_method(manager_interface, "Attach")->action, std::move(details));
  std::string path = co_await attach_file(caller, std::move(file), std::move(decoded));
  co_return path;
}

Task<std::string> Operations::attach_path(Caller caller, std::string path, Options options) {
  const FileCall call(*this, caller.uid);
  AttachOptions decoded = decode_attach_options(options);
  loop::validate_reference(decoded.request.reference);
  if (path.empty() || path[0] != '/') throw_invalid("path: '" + path + "' is not absolute");
  // Before the file is looked for: what exists where is not everybody's business.
  AuthorizationDetails details{{"operation", "AttachPath"}, {"backing-file", path}};
  co_await authorize(caller, find_method(manager_interface, "AttachPath")->action, std::move(details));

  const auto open = path_opening(caller.uid, path, decoded.request.read_only);
  loop::UniqueFd file;
  try {
    file = co_await on_worker(parts_.scheduler, WorkLane{caller.uid, true}, open,
                              Clock::now() + limits_.file_patience);
  } catch (const WorkTimedOut&) {
    throw file_timeout("path");
  }
  std::string object = co_await attach_file(caller, std::move(file), std::move(decoded));
  co_return object;
}

Task<std::string> Operations::attach_file(Caller caller, loop::UniqueFd file, AttachOptions options) {
  Scheduler& scheduler = parts_.scheduler;
  loop::AttachRequest request = std::move(options.request);
  if (!request.reference.empty()) {
    AuthorizationDetails details{{"operation", "set-reference"}, {"backing-file", describe_file(file.get())}};
    co_await authorize(caller, Action::set_reference, std::move(details));
  }
  const loop::FileIdentity identity = loop::identify_file(file.get());
  const auto file_lock = co_await files_.acquire(identity);
  co_await parts_.follower.catch_up();
  request.terms.served_locally = is_served_locally(file.get(), identity);
  request.file = std::move(file);
  if (options.reuse) {
    if (request.probe_block_size) co_await probe_block_size(caller.uid, request);
    if (const Device* device = find_reusable(identity, options, request, caller.uid))
      co_return device->path();
  }
  if (!options.allow_overlap) refuse_overlap(identity, request);
  if (options.lease) {
    request.terms.lease = caller.name;
    request.terms.lease_bus = caller.clientele->id();
  }
  const Reservation reservation(*this, caller.uid, request.reference);
  NumberLocks::Lock number_lock;
  const bool chosen = request.number && *request.number <= loop::max_loop_number;
  if (chosen) number_lock = co_await numbers_.acquire(*request.number);
  request.terms.owner = caller.uid;

  // The request goes with the work: the descriptor is closed on the worker, where
  // closing may wait for the file's server.
  auto attach = [&loops = parts_.loops, &helpers = parts_.helpers,
                 shared = std::make_shared<loop::AttachRequest>(std::move(request))] {
    if (shared->terms.served_locally) return loops.attach(*shared);
    const auto way = std::make_shared<HelperWay>(loops, helpers, shared->terms.owner);
    loop::Attachment attached = way->loops.attach(*shared);
    attached.keep_alive(way);
    return attached;
  };
  std::optional<loop::Attachment> attachment;
  try {
    attachment.emplace(co_await on_worker(scheduler, WorkLane{caller.uid, true}, std::move(attach),
                                          Clock::now() + limits_.file_patience));
  } catch (const WorkTimedOut&) {
    // Should the kernel still say yes, the attachment undoes itself on the worker.
    throw file_timeout("file");
  }

  const unsigned number = attachment->snapshot().number;
  // A removal of the attachment before may still be to be answered.
  if (!chosen) number_lock = co_await numbers_.acquire(number);
  const bool ready = co_await parts_.follower.wait_for_udev(number, attachment->snapshot().disk_sequence,
                                                            attachment->partitions());
  if (!ready) {
    const auto undo = [shared = std::make_shared<loop::Attachment>(std::move(*attachment))]() mutable {
      shared.reset();
    };
    attachment.reset();
    co_await on_worker(scheduler, kernel_lane, undo);
    parts_.follower.settle(number);
    throw loop::Error(loop::Errc::timeout,
                      loop::kernel_name(number) + ": udev did not finish with its partitions in time");
  }
  parts_.follower.publish(*attachment);
  parts_.log("attached " + loop::escape_to_utf8(attachment->snapshot().backing_file) + " to " +
             loop::kernel_name(number) + " for user " + std::to_string(caller.uid));
  const std::string path = require_device({number, attachment->snapshot().disk_sequence}).path();
  const Target target{number, attachment->snapshot().disk_sequence};
  attachment->commit().release();
  parts_.follower.settle(number);
  // Left while the kernel was at work: nobody heard of the device that was to come.
  if (options.lease && !caller.clientele->is_known(caller.name)) co_await end_lease(target);
  co_return path;
}

// The caller's own device that is just what the request asks for. Throws
// InvalidArgs where it is, but for what only an attach could give.
const Device* Operations::find_reusable(const loop::FileIdentity& file, const AttachOptions& options,
                                        const loop::AttachRequest& request, uid_t uid) const {
  for (const auto& [number, device] : parts_.registry.devices()) {
    const loop::DeviceSnapshot& s = device.snapshot;
    const bool same_block = request.block_size == 0 || request.block_size == s.block_size;
    const bool same = device.terms.owner == uid && uid != unmapped_uid && loop::maps_file(s, file) &&
                      s.offset == request.offset && s.size_limit == request.size_limit &&
                      s.read_only == request.read_only && same_block;
    // What may end under its user is not shared.
    const bool fleeting = !device.terms.lease.empty() || s.autoclear || device.terms.autoclear_pending;
    if (!same || fleeting || (request.number && *request.number != number)) continue;
    if (!loop::is_attached(parts_.loops.kernel(), number, s.disk_sequence)) continue;
    const std::string name = loop::kernel_name(number);
    if (!request.reference.empty() && request.reference != s.reference) {
      throw_invalid("reference: " + name + " could be reused, but its reference is '" + s.reference + "'");
    }
    if (options.direct_io_given && request.direct_io != s.direct_io) {
      throw_invalid("direct-io: " + name + " could be reused, but is the other way");
    }
    const bool scan = request.partition_scan != loop::PartitionScan::none;
    if (options.partition_scan_given && scan != device.terms.keeps_partitions) {
      throw_invalid("partition-scan: " + name + " could be reused, but is the other way");
    }
    return &device;
  }
  return nullptr;
}

std::vector<const Device*> Operations::find_overlaps(const loop::FileIdentity& file,
                                                     const loop::AttachRequest& request) const {
  std::vector<const Device*> found;
  const loop::MappedRange range = loop::range_of(request.offset, request.size_limit);
  for (const auto& [number, device] : parts_.registry.devices()) {
    const loop::DeviceSnapshot& s = device.snapshot;
    const bool conflict = loop::maps_file(s, file) && loop::conflicts(s, range, request.read_only);
    // Detached this moment, its event may still be on its way.
    if (conflict && loop::is_attached(parts_.loops.kernel(), number, s.disk_sequence)) {
      found.push_back(&device);
    }
  }
  return found;
}

void Operations::refuse_overlap(const loop::FileIdentity& file, const loop::AttachRequest& request) const {
  const std::vector<const Device*> overlaps = find_overlaps(file, request);
  if (overlaps.empty()) return;
  const loop::DeviceSnapshot& s = overlaps.front()->snapshot;
  throw loop::Error(loop::Errc::overlap, loop::range_of(request.offset, request.size_limit).text() +
                                             " of the file overlap " +
                                             loop::range_of(s.offset, s.size_limit).text() + ", which " +
                                             s.dev_path() + (s.read_only ? " maps read-only" : " maps") +
                                             "; allow-overlap attaches all the same");
}

Task<Operations::ProbeResult> Operations::probe(Caller caller, loop::UniqueFd file, Options options) {
  const FileCall call(*this, caller.uid);
  AttachOptions decoded = decode_attach_options(options);
  AuthorizationDetails details{{"operation", "Probe"}, {"backing-file", describe_file(file.get())}};
  co_await authorize(caller, find_method(manager_interface, "Probe")->action, std::move(details));
  const loop::FileIdentity identity = loop::identify_file(file.get());
  co_await parts_.follower.catch_up();
  decoded.request.file = std::move(file);
  ProbeResult result;
  for (const Device* device : find_overlaps(identity, decoded.request))
    result.overlaps.push_back(device->path());
  const bool local = is_served_locally(decoded.request.file.get(), identity);
  const auto work = [&helpers = parts_.helpers, uid = caller.uid, local,
                     request = std::make_shared<loop::AttachRequest>(std::move(decoded.request))] {
    return local ? loop::probe_image(*request) : helpers.start(uid)->probe_image_file(*request);
  };
  try {
    result.facts = co_await on_worker(parts_.scheduler, WorkLane{caller.uid, true}, work,
                                      Clock::now() + limits_.file_patience);
  } catch (const WorkTimedOut&) {
    throw file_timeout("file");
  }
  co_return result;
}

// Which block size the image is made for is asked of the image, for reuse.
Task<void> Operations::probe_block_size(uid_t uid, loop::AttachRequest& request) {
  const auto look = [&kernel = parts_.loops.kernel(), &helpers = parts_.helpers, uid,
                     request = std::make_shared<loop::AttachRequest>(loop::copy_of(request))] {
    const auto helper = request->terms.served_locally ? nullptr : helpers.start(uid);
    loop::LoopKernel& way = helper ? *helper : kernel;
    const loop::BackingFile file = way.inspect_file(request->file.get());
    loop::validate(*request, file);
    return way.find_image_block_size(*request, file);
  };
  try {
    request.block_size =
        co_await on_worker(parts_.scheduler, WorkLane{uid, true}, look, Clock::now() + limits_.file_patience);
  } catch (const WorkTimedOut&) {
    throw file_timeout("file");
  }
  request.probe_block_size = false;
}

Task<std::string> Operations::get_device(std::string dev_path) {
  const auto resolve = [dev_path] { return loop::loop_number_of(dev_path); };
  const unsigned number = co_await on_worker(parts_.scheduler, kernel_lane, resolve);
  if (parts_.registry.find(number) == nullptr) {
    // Attached a moment ago, its event not yet here?
    co_await parts_.follower.look(number);
  }
  const Device* device = parts_.registry.find(number);
  if (device == nullptr) {
    throw loop::Error(loop::Errc::not_attached, dev_path + ": has no file attached");
  }
  co_return device->path();
}

std::vector<std::string> Operations::backed_by(const loop::FileIdentity& file) const {
  std::vector<const Device*> found;
  for (const auto& [number, device] : parts_.registry.devices()) {
    if (loop::maps_file(device.snapshot, file)) found.push_back(&device);
  }
  std::sort(found.begin(), found.end(), [](const Device* a, const Device* b) {
    return a->snapshot.disk_sequence > b->snapshot.disk_sequence;
  });
  std::vector<std::string> paths;
  for (const Device* device : found) paths.push_back(device->path());
  return paths;
}

Task<std::vector<std::string>> Operations::find_by_file(loop::UniqueFd file) {
  const loop::FileIdentity identity = loop::identify_file(file.get());
  co_await parts_.follower.catch_up();
  co_return backed_by(identity);
}

Task<std::vector<std::string>> Operations::find_by_path(Caller caller, std::string path) {
  const FileCall call(*this, caller.uid);
  if (path.empty() || path[0] != '/') throw_invalid("path: '" + path + "' is not absolute");
  AuthorizationDetails details{{"operation", "FindByPath"}, {"backing-file", path}};
  co_await authorize(caller, find_method(manager_interface, "FindByPath")->action, std::move(details));
  const auto inspect = [this, path, open = path_opening(caller.uid, path, true)] {
    const bool local = parts_.paths.is_served_locally(path);
    return loop::identify_file((local ? parts_.paths.look_up(path) : open()).get());
  };
  loop::FileIdentity identity;
  try {
    identity = co_await on_worker(parts_.scheduler, WorkLane{caller.uid, true}, inspect,
                                  Clock::now() + limits_.file_patience);
  } catch (const WorkTimedOut&) {
    throw file_timeout("path");
  }
  co_await parts_.follower.catch_up();
  co_return backed_by(identity);
}

Task<Operations::Listing> Operations::list_devices() {
  Listing listing;
  for (const auto& [number, device] : parts_.registry.devices()) {
    refresh(number);
  }
  for (const auto& [number, device] : parts_.registry.devices()) {
    listing.emplace_back(device.path(), device.snapshot.dev_path(),
                         loop::escape_to_utf8(device.snapshot.backing_file), device.snapshot.reference);
  }
  co_return listing;
}

void Operations::refresh(unsigned number) {
  const Device* device = parts_.registry.find(number);
  if (device == nullptr) return;
  Device fresh = *device;
  // Detached this moment: its event is on its way and withdraws it.
  if (!loop::refresh_volatile(parts_.loops.kernel(), fresh.snapshot)) return;
  parts_.registry.publish(std::move(fresh));
}

Task<loop::DeviceSizes> Operations::resize(Caller caller, Target target, Options options) {
  const FileCall call(*this, caller.uid);
  const loop::ResizeOptions decoded = decode_resize_options(options);
  co_await authorize_on_device(caller, "Resize", target);
  const auto work = [target, decoded](loop::LoopKernel& kernel) {
    return loop::resize(kernel, target.number, target.disk_sequence, decoded);
  };
  const loop::DeviceSizes sizes = co_await work_on_device(caller, target, work);
  co_return sizes;
}

Task<loop::UniqueFd> Operations::open(Caller caller, Target target, std::string mode) {
  const FileCall call(*this, caller.uid);
  if (mode != "r" && mode != "rw") throw_invalid("mode: '" + mode + "' is neither r nor rw");
  co_await authorize_on_device(caller, "Open", target);
  const bool arm = require_device(target).terms.autoclear_pending;
  const auto work = [target, arm, writable = mode == "rw"](loop::LoopKernel& kernel) {
    loop::UniqueFd fd = loop::open_device(kernel, target.number, target.disk_sequence, writable);
    if (arm) loop::set_autoclear(kernel, target.number, target.disk_sequence, true);  // this is the first use
    return fd;
  };
  loop::UniqueFd fd = co_await work_on_device(caller, target, work);
  if (arm) {
    loop::AttachmentTerms terms = require_device(target).terms;
    terms.autoclear_pending = false;
    remember(require_device(target), terms);
  }
  co_return fd;
}

Task<void> Operations::set_autoclear(Caller caller, Target target, bool enable) {
  const FileCall call(*this, caller.uid);
  co_await authorize_on_device(caller, "SetAutoclear", target);
  // Set on a device that nobody uses, the kernel's flag would end it at once.
  const auto work = [target, enable](loop::LoopKernel& kernel) {
    const bool now = !enable || loop::is_used_exclusively(kernel, target.number);
    if (now) loop::set_autoclear(kernel, target.number, target.disk_sequence, enable);
    return now;
  };
  const bool done = co_await work_on_device(caller, target, work);
  loop::AttachmentTerms terms = require_device(target).terms;
  terms.autoclear_pending = enable && !done;
  if (enable) terms.delete_node = true;
  remember(require_device(target), terms);
}

Task<void> Operations::arm_autoclear() {
  std::vector<Target> pending;
  for (const auto& [number, device] : parts_.registry.devices()) {
    if (device.terms.autoclear_pending) pending.push_back({number, device.snapshot.disk_sequence});
  }
  for (const Target& target : pending) {
    const auto work = [target](loop::LoopKernel& kernel) {
      const bool used = loop::is_used_exclusively(kernel, target.number);
      if (used) loop::set_autoclear(kernel, target.number, target.disk_sequence, true);
      return used;
    };
    try {
      const bool armed = co_await work_on_device(Caller(), target, work);
      if (!armed) continue;
      loop::AttachmentTerms terms = require_device(target).terms;
      terms.autoclear_pending = false;
      remember(require_device(target), terms);
    } catch (const loop::Error&) {
      // Gone in the meantime; or it does not answer, and is tried again at the
      // next change.
    }
  }
}

Task<void> Operations::set_direct_io(Caller caller, Target target, bool enable) {
  const FileCall call(*this, caller.uid);
  co_await authorize_on_device(caller, "SetDirectIO", target);
  const auto work = [target, enable](loop::LoopKernel& kernel) {
    loop::set_direct_io(kernel, target.number, target.disk_sequence, enable);
  };
  co_await work_on_device(caller, target, work);
}

Task<void> Operations::rescan_partitions(Caller caller, Target target) {
  const FileCall call(*this, caller.uid);
  co_await authorize_on_device(caller, "RescanPartitions", target);
  const auto lock = co_await numbers_.acquire(target.number);
  loop::AttachmentTerms terms = require_device(target).terms;
  terms.keeps_partitions = true;
  remember(require_device(target), terms);

  auto claim = parts_.loops.claim(target.number);
  const auto work = [&kernel = parts_.loops.kernel(), &helpers = parts_.helpers, uid = caller.uid,
                     local = terms.served_locally, target] {
    if (local) return loop::sync_partitions(kernel, target.number, target.disk_sequence);
    const auto helper = helpers.start(uid);
    return loop::sync_partitions(*helper, target.number, target.disk_sequence);
  };
  std::exception_ptr failure;
  try {
    const std::vector<loop::TableEntry> added = co_await on_worker(
        parts_.scheduler, WorkLane{caller.uid, true}, work, Clock::now() + limits_.file_patience);
    co_await parts_.follower.wait_for_udev(target.number, target.disk_sequence, added);
  } catch (const WorkTimedOut&) {
    failure = std::make_exception_ptr(file_timeout(loop::kernel_name(target.number)));
  } catch (...) {
    failure = std::current_exception();
  }
  claim.release();
  parts_.follower.settle(target.number);
  co_await parts_.follower.look(target.number);
  if (failure) std::rethrow_exception(failure);
}

Task<AfterRemoval> Operations::remove(Caller caller, Target target, Options options) {
  const RemoveOptions decoded = decode_remove_options(options);
  co_await authorize_on_device(caller, "Remove", target);
  if (decoded.disk_sequence && *decoded.disk_sequence != target.disk_sequence) {
    throw loop::Error(loop::Errc::stale, "disk-sequence: " + loop::kernel_name(target.number) + " has " +
                                             std::to_string(target.disk_sequence) + ", not " +
                                             std::to_string(*decoded.disk_sequence));
  }
  require_device(target);
  AfterRemoval after = co_await remove_now(target, decoded);
  co_return after;
}

Task<void> Operations::client_left(std::string clientele, std::string name) {
  for (const auto& [target, terms] : leases()) {
    if (terms.lease == name && terms.lease_bus == clientele) co_await end_lease(target);
  }
}

Task<void> Operations::end_private_leases() {
  for (const auto& [target, terms] : leases()) {
    if (is_private_name(terms.lease)) co_await end_lease(target);
  }
}

Task<void> Operations::check_leases(std::shared_ptr<ClientDirectory> bus) {
  for (const auto& [target, terms] : leases()) {
    if (is_private_name(terms.lease)) continue;
    bool left = terms.lease_bus != bus->bus_id();
    if (!left) left = co_await bus->has_left(terms.lease);
    if (left) co_await end_lease(target);
  }
}

std::map<Target, loop::AttachmentTerms> Operations::leases() const {
  std::map<Target, loop::AttachmentTerms> leased;
  for (const auto& [number, device] : parts_.registry.devices()) {
    if (device.terms.lease.empty()) continue;
    leased.emplace(Target{number, device.snapshot.disk_sequence}, device.terms);
  }
  return leased;
}

Task<void> Operations::end_lease(Target target) {
  RemoveOptions lazily;
  lazily.removal.lazy = true;
  try {
    co_await remove_now(target, lazily);
  } catch (const loop::Error&) {
    // Detached by somebody else: that is all that was promised.
  }
}

Task<std::shared_ptr<loop::Removal>> Operations::make_removal(Target target, loop::RemovalOptions options) {
  const Device* device = parts_.registry.find(target.number);
  if (device == nullptr || device->terms.served_locally) {
    co_return std::make_shared<loop::Removal>(parts_.loops, target.number, target.disk_sequence, options);
  }
  struct Helped : HelperWay {
    loop::Removal removal;
    Helped(loop::LoopManager& direct, loop::FileHelpers& helpers, uid_t uid, Target t, loop::RemovalOptions o)
        : HelperWay(direct, helpers, uid), removal(loops, t.number, t.disk_sequence, o) {}
  };
  const auto make = [&loops = parts_.loops, &helpers = parts_.helpers, uid = device->terms.owner, target,
                     options] {
    const auto helped = std::make_shared<Helped>(loops, helpers, uid, target, options);
    return std::shared_ptr<loop::Removal>(helped, &helped->removal);
  };
  std::shared_ptr<loop::Removal> removal = co_await on_worker(parts_.scheduler, kernel_lane, make);
  co_return removal;
}

// Rounds of attempts, until the device is gone or the caller's patience is over.
// Between them nothing is armed, open or locked.
Task<AfterRemoval> Operations::remove_now(Target target, RemoveOptions options) {
  const std::shared_ptr<loop::Removal> removal = co_await make_removal(target, options.removal);
  const auto may_pass = [removal] { return removal->may_pass(); };
  const auto last_probing = Clock::now() + loop::longest_probing_patience;
  auto deadline = Clock::now() + (options.timeout ? *options.timeout : std::chrono::microseconds(0));
  for (;;) {
    auto lock = co_await numbers_.acquire(target.number);
    AfterRemoval after(*this, target, std::move(lock));
    const loop::Removal::State state = co_await try_removal(removal, target);
    switch (state) {
      case loop::Removal::State::detached:
        parts_.log("removed " + loop::kernel_name(target.number));
        after.gone = true;
        co_return after;
      case loop::Removal::State::deferred:
        defer_removal(target, options.removal.keep_node);
        co_return after;
      case loop::Removal::State::busy:
        break;
    }
    after.end();
    if (deadline < last_probing) {
      const bool passing = co_await on_worker(parts_.scheduler, kernel_lane, may_pass);
      if (passing) deadline = last_probing;
    }
    if (Clock::now() >= deadline) break;
    const bool woken = co_await readable(parts_.scheduler, removal->wait_fd(), deadline);
    if (!woken) break;
  }
  const auto refuse = [removal] { removal->refuse(); };
  co_await on_worker(parts_.scheduler, kernel_lane, refuse);
  co_return AfterRemoval();
}

// One round. `busy`: nothing has changed.
Task<loop::Removal::State> Operations::try_removal(std::shared_ptr<loop::Removal> removal, Target target) {
  Scheduler& scheduler = parts_.scheduler;
  const auto attempt = [removal] { return removal->attempt(); };
  const auto give_way = [removal] { return removal->give_way(); };
  const auto finish = [removal] { removal->finish(loop::deadline_in(loop::finish_patience)); };
  const auto probing_deadline = Clock::now() + loop::probing_patience;
  auto state = loop::Removal::State::busy;
  bool timed_out = false;
  try {
    for (;;) {
      state = co_await on_worker(scheduler, kernel_lane, attempt, Clock::now() + limits_.file_patience);
      // udev looks at every device that somebody has closed; a mount or swap does
      // not pass by itself.
      if (state != loop::Removal::State::busy || removal->exclusively_held()) break;
      const bool woken = co_await readable(scheduler, removal->wait_fd(), probing_deadline);
      if (!woken) break;
    }
    if (state == loop::Removal::State::busy) {
      state = co_await on_worker(scheduler, kernel_lane, give_way, Clock::now() + limits_.file_patience);
    }
  } catch (const WorkTimedOut&) {
    // Whatever it arms when it comes back, it takes back: it is abandoned.
    timed_out = true;
  }
  if (timed_out) throw file_timeout(loop::kernel_name(target.number));
  if (state == loop::Removal::State::detached) co_await on_worker(scheduler, kernel_lane, finish);
  co_return state;
}

// The device goes with its last close, and then its node is to go, too.
void Operations::defer_removal(Target target, bool keep_node) {
  const Device* device = parts_.registry.find(target.number);
  if (device == nullptr || device->snapshot.disk_sequence != target.disk_sequence) return;
  loop::AttachmentTerms terms = device->terms;
  terms.delete_node = !keep_node;
  remember(*device, terms);
}

AfterRemoval::AfterRemoval(Operations& operations, Target target, NumberLocks::Lock lock)
    : operations_(&operations),
      target_(target),
      lock_(std::move(lock)),
      claim_(operations.parts_.loops.claim(target.number)) {}

AfterRemoval::AfterRemoval(AfterRemoval&& other) noexcept
    : gone(other.gone),
      operations_(std::exchange(other.operations_, nullptr)),
      target_(other.target_),
      lock_(std::move(other.lock_)),
      claim_(std::move(other.claim_)) {}

void AfterRemoval::end() {
  Operations* operations = std::exchange(operations_, nullptr);
  if (operations == nullptr) return;
  if (gone) operations->parts_.registry.withdraw(target_.number, target_.disk_sequence);
  claim_.release();
  operations->parts_.follower.look_again(target_.number);
  lock_.release();
}

// What the kernel can't know of a device, for now and after a restart.
void Operations::remember(const Device& known, const loop::AttachmentTerms& terms) {
  const unsigned number = known.snapshot.number;
  loop::AttachmentRecord record;
  static_cast<loop::AttachmentTerms&>(record) = terms;
  record.number = number;
  record.disk_sequence = known.snapshot.disk_sequence;
  record.backing = known.snapshot.backing;
  if (parts_.loops.records() && record.disk_sequence != 0) parts_.loops.records()->write(record);
  Device device = known;
  device.terms = terms;
  parts_.registry.publish(std::move(device));
}

}  // namespace loopd
