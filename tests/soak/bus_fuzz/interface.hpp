// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the service says that it can be asked: found by Introspect, so that a new
// method needs no word here to be called.
#pragma once

#include <string>
#include <vector>

#include "tests/bus/bus_client.hpp"

namespace soak {

enum class ObjectKind { root, device, partition };

struct Method {
  ObjectKind object;
  std::string interface;
  std::string name;
  std::string signature;  // of its arguments

  std::string text() const { return interface + "." + name + "(" + signature + ")"; }
};

struct Property {
  ObjectKind object;
  std::string interface;
  std::string name;
  std::string type;
};

struct Interface {
  std::vector<Method> methods;
  std::vector<Property> properties;
  std::vector<std::string> option_keys;  // those that the service lists
};

// Of the root object, a device and one of its partitions. Throws where one can't be introspected.
Interface introspect(bus_test::BusClient& client, const std::string& device, const std::string& partition);

}  // namespace soak
