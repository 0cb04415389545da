// SPDX-License-Identifier: LGPL-2.1-or-later
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "dbus/names.hpp"
#include "service/cli/common.hpp"

namespace loopctl {
namespace {

using Properties = std::map<sdbus::PropertyName, sdbus::Variant>;
using Interfaces = std::map<sdbus::InterfaceName, Properties>;

// A line is out when the event is: whoever reads may be waiting for it.
void print(const char* what, const std::string& node, const std::string& detail = {}) {
  std::printf("%-8s %s%s%s\n", what, node.c_str(), detail.empty() ? "" : " ", printable(detail).c_str());
  if (std::fflush(stdout) != 0) std::exit(exit_failed);
}

std::string text_of(const sdbus::Variant& value) {
  if (value.containsValueOfType<bool>()) return value.get<bool>() ? "true" : "false";
  if (value.containsValueOfType<uint32_t>()) return std::to_string(value.get<uint32_t>());
  if (value.containsValueOfType<uint64_t>()) return std::to_string(value.get<uint64_t>());
  if (value.containsValueOfType<std::string>()) return value.get<std::string>();
  if (!value.containsValueOfType<std::vector<std::string>>()) return {};
  std::string text;
  for (const auto& item : value.get<std::vector<std::string>>()) text += (text.empty() ? "" : ",") + item;
  return text;
}

void on_interfaces_added(sdbus::Message& message) {
  sdbus::ObjectPath object;
  Interfaces interfaces;
  message >> object >> interfaces;
  const auto device = interfaces.find(sdbus::InterfaceName(loopd::device_interface));
  if (device == interfaces.end()) return;  // a partition: its own signal tells it
  print("added", node_of_object(object), text_of(device->second.at(sdbus::PropertyName("BackingFile"))));
}

void on_interfaces_removed(sdbus::Message& message) {
  sdbus::ObjectPath object;
  std::vector<sdbus::InterfaceName> interfaces;
  message >> object >> interfaces;
  const bool device =
      std::find(interfaces.begin(), interfaces.end(), loopd::device_interface) != interfaces.end();
  if (device) print("removed", node_of_object(object));
}

void on_partition(sdbus::Message& message, const char* what) {
  sdbus::ObjectPath object;
  std::string node;
  message >> object >> node;
  print(what, node);
}

// The bytes of a name are in BackingFile too, and partitions have lines of their own.
bool is_told_otherwise(const std::string& property) {
  return property == "BackingFileBytes" || property == "Partitions";
}

void on_properties_changed(sdbus::Message& message) {
  std::string interface;
  Properties changed;
  message >> interface >> changed;
  if (interface != loopd::device_interface && interface != loopd::partition_interface) return;
  std::string detail;
  for (const auto& [name, value] : changed) {
    if (!is_told_otherwise(name)) detail += (detail.empty() ? "" : " ") + name + "=" + text_of(value);
  }
  if (!detail.empty()) print("changed", node_of_object(message.getPath()), detail);
}

void on_signal(sdbus::Message message) {
  const std::string_view member = message.getMemberName();
  if (member == "InterfacesAdded") return on_interfaces_added(message);
  if (member == "InterfacesRemoved") return on_interfaces_removed(message);
  if (member == "PartitionAdded") return on_partition(message, "added");
  if (member == "PartitionRemoved") return on_partition(message, "removed");
  if (member == "PropertiesChanged") return on_properties_changed(message);
}

int run(int argc, char** argv) {
  if (!arguments_only(argc, argv).empty()) throw UsageError("takes no arguments");
  const auto connection = connect_to_bus();
  const std::string rule =
      std::string("type='signal',sender='") + loopd::bus_name + "',path_namespace='" + loopd::root_path + "'";
  const sdbus::Slot slot = connection->addMatch(rule, on_signal, sdbus::return_slot);
  // Starts the service where the bus can, and fails where there is none.
  Manager(*connection).Version();
  std::puts("listening");
  std::fflush(stdout);
  connection->enterEventLoop();
  return EXIT_SUCCESS;
}

}  // namespace

const Verb monitor_verb{"monitor", "", "Print devices and partitions as they come, change and go", "", run};

}  // namespace loopctl
