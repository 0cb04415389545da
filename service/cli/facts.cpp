// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/facts.hpp"

#include <pwd.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

#include "dbus/names.hpp"
#include "service/cli/text.hpp"

namespace loopctl {
namespace {

constexpr uint64_t sector = 512;

// "BackingFileDeleted" as backing-file-deleted.
std::string kebab(const std::string& name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    const bool upper = std::isupper(static_cast<unsigned char>(name[i])) != 0;
    const bool begins = upper && i > 0 &&
                        (std::islower(static_cast<unsigned char>(name[i - 1])) ||
                         (i + 1 < name.size() && std::islower(static_cast<unsigned char>(name[i + 1]))));
    if (begins) out += '-';
    out += static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
  }
  return out;
}

template <typename Value>
Json::Array to_array(const std::vector<Value>& values, std::string (*convert)(const std::string&)) {
  Json::Array array;
  for (const auto& value : values) array.emplace_back(convert(value));
  return array;
}

std::string same(const std::string& text) { return text; }

uint32_t partition_number(const Properties& properties) { return get<uint32_t>(properties, "Number"); }

std::map<uint32_t, DeviceFacts> from_objects(const std::map<sdbus::ObjectPath, Interfaces>& objects) {
  std::map<uint32_t, DeviceFacts> devices;
  std::map<sdbus::ObjectPath, uint32_t> numbers;
  for (const auto& [path, interfaces] : objects) {
    const auto device = interfaces.find(sdbus::InterfaceName(loopd::device_interface));
    if (device == interfaces.end()) continue;
    const auto number = get<uint32_t>(device->second, "Number");
    numbers[path] = number;
    devices[number] = {path, device->second, {}};
  }
  for (const auto& [path, interfaces] : objects) {
    const auto partition = interfaces.find(sdbus::InterfaceName(loopd::partition_interface));
    if (partition == interfaces.end()) continue;
    const auto device = numbers.find(get<sdbus::ObjectPath>(partition->second, "Device"));
    if (device == numbers.end()) continue;
    devices[device->second].partitions[partition_number(partition->second)] = partition->second;
  }
  return devices;
}

// Nothing: the object has gone meanwhile.
std::optional<Properties> properties_of(Session& session, const sdbus::ObjectPath& object,
                                        const char* interface) {
  try {
    return sdbus::createProxy(session.connection(), sdbus::ServiceName(loopd::bus_name), object)
        ->getAllProperties()
        .onInterface(interface);
  } catch (const sdbus::Error& error) {
    if (error.getName() != loopd::error_name::unknown_object) throw;
    return std::nullopt;
  }
}

// So many, or with so long paths, that one reply with all of it would be too large.
std::map<uint32_t, DeviceFacts> read_one_by_one(Session& session) {
  std::map<uint32_t, DeviceFacts> devices;
  for (const auto& listed : Manager(session).ListDevices()) {
    const sdbus::ObjectPath& object = listed.get<0>();
    const auto properties = properties_of(session, object, loopd::device_interface);
    if (!properties) continue;
    DeviceFacts device{object, *properties, {}};
    for (const auto& path : get<std::vector<sdbus::ObjectPath>>(*properties, "Partitions")) {
      const auto partition = properties_of(session, path, loopd::partition_interface);
      if (partition) device.partitions[partition_number(*partition)] = *partition;
    }
    devices[get<uint32_t>(*properties, "Number")] = std::move(device);
  }
  return devices;
}

}  // namespace

std::map<uint32_t, DeviceFacts> read_devices(Session& session) {
  try {
    return from_objects(Manager(session).GetManagedObjects());
  } catch (const sdbus::Error& error) {
    if (error.getName() != loopd::error_name::limits_exceeded) throw;
    return read_one_by_one(session);
  }
}

std::string node_of_object(const std::string& object) {
  const std::string root = std::string(loopd::root_path) + "/";
  std::string name = object.starts_with(root) ? object.substr(root.size()) : object;
  name.erase(std::remove(name.begin(), name.end(), '/'), name.end());
  return "/dev/" + name;
}

Json to_json(const sdbus::Variant& value) {
  if (value.containsValueOfType<bool>()) return value.get<bool>();
  if (value.containsValueOfType<uint32_t>()) return uint64_t{value.get<uint32_t>()};
  if (value.containsValueOfType<uint64_t>()) return value.get<uint64_t>();
  if (value.containsValueOfType<std::string>()) return value.get<std::string>();
  if (value.containsValueOfType<sdbus::ObjectPath>()) return node_of_object(value.get<sdbus::ObjectPath>());
  if (value.containsValueOfType<std::vector<std::string>>()) {
    return to_array(value.get<std::vector<std::string>>(), same);
  }
  if (value.containsValueOfType<std::vector<sdbus::ObjectPath>>()) {
    return to_array(value.get<std::vector<sdbus::ObjectPath>>(), node_of_object);
  }
  return {};
}

Json to_json(const std::string& name, const sdbus::Variant& value) {
  if (name == "Dev" || name == "BackingDev") return device_number(value.get<uint64_t>());
  return to_json(value);
}

Json to_json(const Properties& properties) {
  Json::Object object;
  for (const auto& [name, value] : properties) {
    if (name != "BackingFileBytes") object.emplace_back(kebab(name), to_json(name, value));
  }
  return object;
}

std::string device_number(uint64_t dev) {
  return std::to_string(::major(dev)) + ":" + std::to_string(::minor(dev));
}

Health health_of(const Properties& properties) {
  const auto file_size = get<uint64_t>(properties, "BackingFileSize");
  const auto size = get<uint64_t>(properties, "Size");
  const auto limit = get<uint64_t>(properties, "SizeLimit");
  const uint64_t end = get<uint64_t>(properties, "Offset") + size;
  if (get<bool>(properties, "BackingFileDeleted")) {
    return {"deleted", "the file was deleted; what is on it is lost when the device goes", false};
  }
  if (get<uint64_t>(properties, "BackingInode") == 0) return {"good", "good"};  // a block device
  if (file_size == 0) return {"unknown", "the path does not lead to the file from here", false};
  if (file_size < end) {
    return {"truncated", "the file was cut: the last " + std::to_string(end - file_size) + " bytes are lost",
            false};
  }
  if (file_size - end >= sector && (limit == 0 || size < limit)) {
    return {"grown", "good; the file has grown, 'loopctl resize' lets the device follow"};
  }
  return {"good", "good"};
}

std::string owner_of(const Properties& properties, bool remote) {
  const auto uid = get<uint32_t>(properties, "OwnerUID");
  const passwd* user = remote ? nullptr : ::getpwuid(uid);
  return user ? user->pw_name : std::to_string(uid);
}

}  // namespace loopctl
