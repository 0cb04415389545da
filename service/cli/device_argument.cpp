// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/device_argument.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>

#include "core/utf8.hpp"
#include "dbus/names.hpp"
#include "service/cli/failure.hpp"
#include "service/cli/text.hpp"

namespace loopctl {
namespace {

bool is_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

// "3", "loop3" and "loop3p1" are devices, whatever files there are; others are not.
std::optional<std::string> node_by_short_name(std::string_view name) {
  std::string_view number = name;
  if (number.starts_with("loop")) number.remove_prefix(4);
  if (is_digits(number)) return "/dev/loop" + std::string(number);
  const size_t part = number.find('p');
  if (name.starts_with("loop") && part != number.npos && is_digits(number.substr(0, part)) &&
      is_digits(number.substr(part + 1))) {
    return "/dev/" + std::string(name);
  }
  return std::nullopt;
}

NamedDevice named(Session& session, const sdbus::ObjectPath& object) {
  Device device(session, object);
  return {object, node_of_object(object), device.Number(), device.DiskSequence()};
}

NamedDevice get_device(Session& session, const std::string& name, const std::string& node) {
  try {
    return named(session, Manager(session).GetDevice(node));
  } catch (const sdbus::Error& error) {
    throw failure_of(name, error);
  }
}

bool is_block_device(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISBLK(st.st_mode);
}

// A link outside /dev may lead to a node as well.
std::optional<std::string> node_by_path(const Session& session, const std::string& name) {
  if (name.starts_with("/dev/")) return name;
  if (session.is_remote() || !is_block_device(name)) return std::nullopt;
  std::error_code error;
  std::string real = std::filesystem::canonical(name, error);
  if (error || !real.starts_with("/dev/")) return std::nullopt;
  return real;
}

std::vector<sdbus::ObjectPath> ask_for_file(Session& session, const std::string& path) {
  if (session.is_remote()) return Manager(session).FindByPath(path);
  const int fd = ::open(path.c_str(), O_PATH | O_CLOEXEC);
  if (fd < 0) throw Failure(path, errno);
  return Manager(session).FindByFile(sdbus::UnixFd(fd, sdbus::adopt_fd));
}

bool file_may_be_meant(const Session& session, const std::string& name) {
  return name.find('/') != name.npos || (!session.is_remote() && ::access(name.c_str(), F_OK) == 0);
}

// The file is gone, the device is not; its name is what is left.
std::vector<NamedDevice> find_by_deleted_file(Session& session, const std::string& name) {
  const std::string path = loop::escape_to_utf8(absolute_path(name));
  std::vector<NamedDevice> found;
  for (const auto& [number, facts] : read_devices(session)) {
    const bool matches = get<bool>(facts.properties, "BackingFileDeleted") &&
                         get<std::string>(facts.properties, "BackingFile") == path;
    if (matches) found.push_back(named(facts));
  }
  return found;
}

std::vector<NamedDevice> find_by_reference(Session& session, const std::string& name) {
  std::vector<NamedDevice> found;
  if (name.find('/') != name.npos) return found;
  for (const auto& [number, facts] : read_devices(session)) {
    if (get<std::string>(facts.properties, "Reference") == name) found.push_back(named(facts));
  }
  return found;
}

void add_new(std::vector<NamedDevice>& devices, const std::vector<NamedDevice>& more) {
  for (const NamedDevice& device : more) {
    const bool known = std::any_of(devices.begin(), devices.end(),
                                   [&](const NamedDevice& other) { return other.object == device.object; });
    if (!known) devices.push_back(device);
  }
}

std::vector<NamedDevice> find_by_file_or_reference(Session& session, const std::string& name) {
  std::vector<NamedDevice> found = find_by_reference(session, name);
  const bool is_file = file_may_be_meant(session, name);
  if (!is_file && found.empty()) {
    throw Failure(name,
                  "is neither a device, nor a reference, nor a file; 'loopctl list' shows what there is",
                  exit_not_found);
  }
  if (is_file && (session.is_remote() || ::access(name.c_str(), F_OK) == 0)) {
    add_new(found, find_devices_of_file(session, name));
  } else if (is_file) {
    add_new(found, find_by_deleted_file(session, name));
    if (found.empty()) throw Failure(name, ENOENT);
  }
  if (found.empty()) {
    throw Failure(name, "no device is attached to this file; 'loopctl list' shows what there is",
                  exit_not_found);
  }
  return found;
}

}  // namespace

NamedDevice named(const DeviceFacts& facts) {
  return {facts.object, node_of_object(facts.object), get<uint32_t>(facts.properties, "Number"),
          get<uint64_t>(facts.properties, "DiskSequence")};
}

std::string absolute_path(const std::string& path) {
  return std::filesystem::absolute(path).lexically_normal();
}

std::vector<NamedDevice> find_devices_of_file(Session& session, const std::string& path) {
  std::vector<NamedDevice> found;
  try {
    for (const sdbus::ObjectPath& object : ask_for_file(session, path))
      found.push_back(named(session, object));
  } catch (const sdbus::Error& error) {
    throw failure_of(path, error);
  }
  return found;
}

std::vector<NamedDevice> find_devices(Session& session, const std::string& name) {
  if (const auto node = node_by_short_name(name)) return {get_device(session, name, *node)};
  const auto node = node_by_path(session, name);
  if (!node) return find_by_file_or_reference(session, name);
  try {
    return {named(session, Manager(session).GetDevice(*node))};
  } catch (const sdbus::Error& error) {
    // It may be the file behind a loop device: a disk, or one in /dev/shm.
    const bool other = error.getName() == loopd::error_name::not_a_loop_device;
    if (!other || session.is_remote() || ::access(name.c_str(), F_OK) != 0) throw failure_of(name, error);
  }
  return find_by_file_or_reference(session, name);
}

NamedDevice find_device(Session& session, const std::string& name) {
  const std::vector<NamedDevice> found = find_devices(session, name);
  if (found.size() == 1) return found[0];
  std::vector<std::string> nodes;
  for (const NamedDevice& device : found) nodes.push_back(device.node);
  throw Failure(name, "may be any of " + join(nodes, ", ") + "; name one of them", exit_usage);
}

}  // namespace loopctl
