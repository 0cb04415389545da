// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/operation_context.hpp"

#include <unistd.h>

#include <array>
#include <utility>

#include "core/error.hpp"
#include "core/utf8.hpp"
#include "dbus/errors.hpp"
#include "dbus/method_table.hpp"
#include "dbus/names.hpp"

namespace loopd {

namespace {

bool needs_no_decision(const Caller& caller, Action action) {
  return action == Action::none || caller.uid == 0;
}

// The link's text alone: looking at the file may wait for its server.
std::string describe_file(int fd) {
  std::array<char, 4096> target{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  return length <= 0 ? "" : loop::escape_to_utf8({target.data(), static_cast<size_t>(length)});
}

}  // namespace

loop::Error file_timeout(const std::string& what) {
  return {loop::Errc::timeout, what + ": the file system of the backing file does not answer"};
}

void require_absolute(const std::string& path) {
  if (path.empty() || path[0] != '/') throw_invalid("path: '" + path + "' is not absolute");
}

UserCounts::One OperationContext::file_call(uid_t uid) {
  const unsigned under_way = file_calls_.of(uid);
  if (uid != 0 && under_way >= limits.file_calls_per_user) {
    throw_limits("user " + std::to_string(uid) + " has " + std::to_string(under_way) +
                 " calls under way, which is the limit");
  }
  return file_calls_.add(uid);
}

std::function<loop::UniqueFd()> OperationContext::path_opening(uid_t uid, std::string path,
                                                               bool read_only) const {
  return [&paths = parts.paths, &helpers = parts.helpers, uid, path = std::move(path), read_only] {
    const auto way = helpers.way(paths.is_served_locally(path), uid);
    return way->kernel().open_path(paths.root(), path, read_only);
  };
}

Task<void> OperationContext::authorize(Caller caller, Action action, AuthorizationDetails details) {
  if (needs_no_decision(caller, action)) co_return;
  details.emplace("caller-uid", std::to_string(caller.uid));
  co_await caller.clientele->require(caller, action, std::move(details));
}

Task<void> OperationContext::authorize_on_file(Caller caller, Action action, std::string operation,
                                               int file) {
  if (needs_no_decision(caller, action)) co_return;
  AuthorizationDetails details{{"operation", std::move(operation)}, {"backing-file", describe_file(file)}};
  co_await authorize(std::move(caller), action, std::move(details));
}

const Device& OperationContext::require_device(Target target) const {
  const std::string name = loop::kernel_name(target.number);
  const Device* device = parts.registry.find(target.number);
  if (device == nullptr) throw loop::Error(loop::Errc::not_attached, name + ": is not attached any more");
  if (device->snapshot.disk_sequence != target.disk_sequence) {
    throw loop::Error(loop::Errc::stale, name + ": is another attachment by now");
  }
  return *device;
}

Task<void> OperationContext::authorize_on_device(Caller caller, std::string member, Target target) {
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

void OperationContext::log_soon(std::string message) {
  parts.scheduler.post([log = parts.log, message = std::move(message)] { log(message); });
}

void OperationContext::remember(const Device& known, const loop::AttachmentTerms& terms) {
  write_record(known.snapshot, terms);
  publish(known, terms);
}

void OperationContext::note(const Device& known, const loop::AttachmentTerms& terms) {
  try {
    write_record(known.snapshot, terms);
  } catch (const loop::Error& error) {
    log_soon(known.snapshot.dev_path() + ": " + error.what());
  }
  publish(known, terms);
}

void OperationContext::note_autoclear_armed(Target target) {
  const Device& device = require_device(target);
  loop::AttachmentTerms terms = device.terms;
  terms.autoclear_pending = false;
  note(device, terms);
}

void OperationContext::write_record(const loop::DeviceSnapshot& snapshot,
                                    const loop::AttachmentTerms& terms) {
  loop::AttachmentRecords* records = parts.loops.records();
  if (records == nullptr || snapshot.disk_sequence == 0) return;
  loop::AttachmentRecord record;
  if (auto before = records->find(snapshot.disk_sequence)) {
    record = std::move(*before);
  } else {
    record.number = snapshot.number;
    record.disk_sequence = snapshot.disk_sequence;
    record.backing = snapshot.backing;
  }
  static_cast<loop::AttachmentTerms&>(record) = terms;
  records->write(record);
}

void OperationContext::publish(const Device& known, const loop::AttachmentTerms& terms) {
  Device device = known;
  device.terms = terms;
  parts.registry.publish(std::move(device));
}

}  // namespace loopd
