// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the service publishes of its devices, for the verbs that show it.
#pragma once

#include <map>
#include <string>

#include "service/cli/json.hpp"
#include "service/cli/session.hpp"

namespace loopctl {

using Properties = std::map<sdbus::PropertyName, sdbus::Variant>;
using Interfaces = std::map<sdbus::InterfaceName, Properties>;

template <typename Value>
Value get(const Properties& properties, const char* name) {
  return properties.at(sdbus::PropertyName(name)).get<Value>();
}

struct DeviceFacts {
  sdbus::ObjectPath object;
  Properties properties;
  std::map<uint32_t, Properties> partitions;  // by number
};

// Every device, by number.
std::map<uint32_t, DeviceFacts> read_devices(Session& session);

// "/org/example/Loop1/loop3/p1" as /dev/loop3p1.
std::string node_of_object(const std::string& object);

// A value as it came; bytes are left out, as the text beside them says the same.
Json to_json(const sdbus::Variant& value);
// A property; objects as their nodes, device numbers as MAJOR:MINOR.
Json to_json(const std::string& name, const sdbus::Variant& value);
Json to_json(const Properties& properties);

// "7:3"
std::string device_number(uint64_t dev);

// Of the file behind the device.
struct Health {
  const char* word;   // "good", "deleted"…
  std::string story;  // a sentence for people
  bool is_good = true;
};
Health health_of(const Properties& properties);

// The user's name; the number on another machine, or where it has none.
std::string owner_of(const Properties& properties, bool remote);

}  // namespace loopctl
