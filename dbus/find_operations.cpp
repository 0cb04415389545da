// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/find_operations.hpp"

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
  const OperationContext::FileCall call(context_, caller.uid);
  AttachOptions decoded = decode_attach_options(options);
  AuthorizationDetails details{{"operation", "Probe"}, {"backing-file", describe_file(file.get())}};
  co_await context_.authorize(caller, find_method(manager_interface, "Probe")->action, std::move(details));
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
  if (context_.parts.registry.find(number) == nullptr) {
    // Attached a moment ago, its event not yet here?
    co_await context_.parts.follower.look(number);
  }
  const Device* device = context_.parts.registry.find(number);
  if (device == nullptr) {
    throw loop::Error(loop::Errc::not_attached, dev_path + ": has no file attached");
  }
  co_return device->path();
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
  const OperationContext::FileCall call(context_, caller.uid);
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
  Listing listing;
  for (const auto& [number, device] : context_.parts.registry.devices()) {
    refresh(number);
  }
  for (const auto& [number, device] : context_.parts.registry.devices()) {
    listing.emplace_back(device.path(), device.snapshot.dev_path(),
                         loop::escape_to_utf8(device.snapshot.backing_file), device.snapshot.reference);
  }
  if (const size_t bytes = listed_size(listing); bytes > most_reply_bytes) throw_limits(too_large(bytes));
  co_return listing;
}

void FindOperations::refresh(unsigned number) {
  const Device* device = context_.parts.registry.find(number);
  if (device == nullptr) return;
  Device fresh = *device;
  // Detached this moment: its event is on its way and withdraws it.
  if (!loop::refresh_volatile(context_.parts.loops.kernel(), fresh.snapshot)) return;
  context_.parts.registry.publish(std::move(fresh));
}

}  // namespace loopd
