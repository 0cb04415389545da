// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/bus_fuzz/interface.hpp"

#include <regex>
#include <stdexcept>

namespace soak {
namespace {

constexpr const char* introspectable_interface = "org.freedesktop.DBus.Introspectable";

// An opening tag as sd-bus writes it: one to a line, without anything in between.
struct Tag {
  std::string name;
  std::string attributes;

  std::string value(const std::string& attribute) const {
    const std::string start = " " + attribute + "=\"";
    const auto at = attributes.find(start);
    if (at == std::string::npos) return {};
    const auto from = at + start.size();
    return attributes.substr(from, attributes.find('"', from) - from);
  }
};

std::vector<Tag> tags_of(const std::string& xml) {
  static const std::regex pattern("<([a-z]+)((?: [a-z]+=\"[^\"]*\")*) ?/?>");
  std::vector<Tag> tags;
  for (auto match = std::sregex_iterator(xml.begin(), xml.end(), pattern); match != std::sregex_iterator();
       ++match) {
    tags.push_back({(*match)[1], (*match)[2]});
  }
  return tags;
}

void add(Interface& found, ObjectKind kind, const std::string& xml) {
  std::string interface;
  bool in_method = false;
  for (const Tag& tag : tags_of(xml)) {
    if (tag.name == "interface") interface = tag.value("name");
    if (tag.name == "property")
      found.properties.push_back({kind, interface, tag.value("name"), tag.value("type")});
    if (tag.name == "method") found.methods.push_back({kind, interface, tag.value("name"), {}});
    if (tag.name != "arg" && tag.name != "annotation") in_method = tag.name == "method";
    // Of a method they go in where nothing else is said.
    if (tag.name == "arg" && in_method && tag.value("direction") != "out") {
      found.methods.back().signature += tag.value("type");
    }
  }
}

}  // namespace

Interface introspect(bus_test::BusClient& client, const std::string& device, const std::string& partition) {
  Interface found;
  const std::vector<std::pair<ObjectKind, std::string>> objects{{ObjectKind::root, bus_test::root_path},
                                                                {ObjectKind::device, device},
                                                                {ObjectKind::partition, partition}};
  for (const auto& [kind, object] : objects) {
    const bus_test::Reply reply =
        client.call({.object = object, .interface = introspectable_interface, .member = "Introspect"});
    if (!reply.ok()) throw std::runtime_error(object + ": " + reply.message);
    add(found, kind, reply.values.at(0).text);
  }
  const bus_test::Reply keys =
      client.property(bus_test::root_path, "SupportedOptions", bus_test::manager_interface);
  if (!keys.ok()) throw std::runtime_error("SupportedOptions: " + keys.message);
  found.option_keys = keys.values.at(0).texts();
  return found;
}

}  // namespace soak
