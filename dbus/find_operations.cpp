// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/find_operations.hpp"

#include <exception>
#include <memory>
#include <utility>

#include "core/error.hpp"
#include "core/utf8.hpp"
#include "dbus/errors.hpp"
#include "dbus/file_devices.hpp"
#include "dbus/method_table.hpp"
#include "dbus/names.hpp"
#include "dbus/reply_limit.hpp"

namespace loopd {
namespace {

using namespace std::chrono_literals;

// What the kernel changed without an event is told that much later, at most.
constexpr auto between_background_looks = 1s;

size_t listed_size(const FindOperations::Listing& listing) {
  constexpr size_t around_strings = 32;  // their lengths, zeros and padding
  size_t bytes = 0;
  for (const auto& [object, dev_path, file, reference] : listing) {
    bytes += object.size() + dev_path.size() + file.size() + reference.size() + around_strings;
  }
  return bytes;
}

}  // namespace

Task<FindOperations::ProbeResult> FindOperations::probe(Caller caller, loop::UniqueFd file, Options options) {
  const auto call = context_.file_call(caller.uid);
  AttachOptions decoded = decode_attach_options(options);
  const Action action = find_method(manager_interface, "Probe")->action;
  co_await context_.authorize_on_file(caller, action, "Probe", file.get());
  const loop::FileIdentity identity = loop::identify_file(file.get());
  co_await context_.parts.follower.catch_up();
  decoded.request.file = std::move(file);
  ProbeResult result;
  const FileDevices devices(context_.parts.registry, context_.parts.loops.kernel(), identity);
  for (const Device* device : devices.conflicting(decoded.request)) {
    result.overlaps.push_back(device->path());
  }
  const bool local = context_.locality.is_served_locally(decoded.request.file.get(), identity);
  const auto work = [&helpers = context_.parts.helpers, uid = caller.uid, local,
                     request = std::make_shared<loop::AttachRequest>(std::move(decoded.request))] {
    return helpers.way(local, uid)->kernel().probe_image_file(*request);
  };
  result.facts = co_await context_.on_patient_worker(WorkLane{caller.uid, true}, "file", work);
  co_return result;
}

Task<std::string> FindOperations::get_device(std::string dev_path) {
  const auto resolve = [dev_path] { return loop::loop_number_of(dev_path); };
  const unsigned number = co_await on_worker(context_.parts.scheduler, kernel_lane, resolve);
  // Attached or detached a moment ago, its event not yet here?
  if (find_attached(number) == nullptr) co_await context_.parts.follower.look(number);
  const Device* device = find_attached(number);
  if (device == nullptr) {
    throw loop::Error(loop::Errc::not_attached, dev_path + ": has no file attached");
  }
  co_return device->path();
}

const Device* FindOperations::find_attached(unsigned number) const {
  const Device* device = context_.parts.registry.find(number);
  return device != nullptr && is_attached(context_.parts.loops.kernel(), *device) ? device : nullptr;
}

std::vector<std::string> FindOperations::backed_by(const loop::FileIdentity& file) const {
  return FileDevices(context_.parts.registry, context_.parts.loops.kernel(), file).paths();
}

Task<std::vector<std::string>> FindOperations::find_by_file(loop::UniqueFd file) {
  const loop::FileIdentity identity = loop::identify_file(file.get());
  co_await context_.parts.follower.catch_up();
  co_return backed_by(identity);
}

Task<std::vector<std::string>> FindOperations::find_by_path(Caller caller, std::string path) {
  const auto call = context_.file_call(caller.uid);
  require_absolute(path);
  AuthorizationDetails details{{"operation", "FindByPath"}, {"backing-file", path}};
  co_await context_.authorize(caller, find_method(manager_interface, "FindByPath")->action,
                              std::move(details));
  const auto inspect = [&paths = context_.parts.paths, path,
                        open = context_.path_opening(caller.uid, path, true)] {
    const bool local = paths.is_served_locally(path);
    return loop::identify_file((local ? paths.look_up(path) : open()).get());
  };
  const loop::FileIdentity identity =
      co_await context_.on_patient_worker(WorkLane{caller.uid, true}, "path", inspect);
  co_await context_.parts.follower.catch_up();
  co_return backed_by(identity);
}

Task<FindOperations::Listing> FindOperations::list_devices() {
  co_await refresh_all();
  Listing listing;
  for (const auto& [number, device] : context_.parts.registry.devices()) {
    listing.emplace_back(device.path(), device.snapshot.dev_path(),
                         loop::escape_to_utf8(device.snapshot.backing_file), device.snapshot.reference);
  }
  if (const size_t bytes = listed_size(listing); bytes > most_reply_bytes) throw_limits(too_large(bytes));
  co_return listing;
}

void FindOperations::refresh(unsigned number, loop::Volatile what) {
  const Device* device = context_.parts.registry.find(number);
  const auto& claims = context_.parts.loops.claims();
  if (device == nullptr || claims.claimed(number)) return;
  Look look{device->snapshot, device->snapshot, claims.count(number)};
  // False: detached this moment, its event is on its way and withdraws it.
  look.attached = loop::refresh_volatile(context_.parts.loops.kernel(), look.snapshot, what);
  publish(look);
}

Task<void> FindOperations::refresh_all() {
  const uint64_t ours = ++asked_;
  const auto turn = co_await turns_.acquire(0);
  if (ours <= answered_to_) co_return;
  co_await look_at_all();
}

Task<void> FindOperations::look_at_all() {
  answered_to_ = asked_;
  const auto work = [&kernel = context_.parts.loops.kernel(), looks = looks_at_all()]() mutable {
    for (Look& look : looks) look.attached = loop::refresh_volatile(kernel, look.snapshot);
    return std::move(looks);
  };
  const std::vector<Look> looks = co_await on_worker(context_.parts.scheduler, kernel_lane, work);
  for (const Look& look : looks) publish(look);
}

std::vector<FindOperations::Look> FindOperations::looks_at_all() const {
  std::vector<Look> looks;
  looks.reserve(context_.parts.registry.devices().size());
  const auto& claims = context_.parts.loops.claims();
  for (const auto& [number, device] : context_.parts.registry.devices()) {
    if (!claims.claimed(number)) looks.push_back({device.snapshot, device.snapshot, claims.count(number)});
  }
  return looks;
}

// Not over what an operation has published since the look began, or is about to. What
// is half-way under one was not looked at.
void FindOperations::publish(const Look& look) {
  const unsigned number = look.snapshot.number;
  const auto& claims = context_.parts.loops.claims();
  const Device* device = context_.parts.registry.find(number);
  if (!look.attached || device == nullptr) return;
  if (device->snapshot.disk_sequence != look.snapshot.disk_sequence) return;
  if (claims.claimed(number) || claims.count(number) != look.claims) return;
  loop::DeviceSnapshot before = look.before;
  if (loop::copy_volatile(device->snapshot, before)) return;  // told since, and newer
  loop::DeviceSnapshot now = device->snapshot;
  if (!loop::copy_volatile(look.snapshot, now)) return;
  Device fresh = *device;
  fresh.snapshot = std::move(now);
  context_.parts.registry.publish(std::move(fresh));
}

// After the reply that is made now, which is not to wait for it.
void FindOperations::refresh_all_soon() {
  if (std::exchange(background_waits_, true)) return;
  context_.parts.scheduler.post([this] { tasks_.start(refresh_in_background()); });
}

Task<void> FindOperations::refresh_in_background() {
  try {
    // Whoever asks again and again does not keep a processor busy with it.
    if (Clock::now() < next_in_background_) co_await pause(context_.parts.scheduler, next_in_background_);
    next_in_background_ = Clock::now() + between_background_looks;
    const auto turn = co_await turns_.acquire(0);
    background_waits_ = false;
    co_await look_at_all();
  } catch (const std::exception&) {
    // No worker to be had. Nobody waits for this; the next one who asks makes another.
    background_waits_ = false;
  }
}

}  // namespace loopd
