// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/partition_interface.hpp"

#include "dbus/names.hpp"
#include "dbus/object_path.hpp"

namespace loopd {

PartitionInterface::PartitionInterface(sd_bus* bus, const ObjectRegistry& registry) : registry_(registry) {
  slot_ = add_fallback_vtable(bus, partition_interface, vtable, find, this);
}

int PartitionInterface::find(sd_bus*, const char* path, const char*, void* self, void** found,
                             sd_bus_error*) {
  auto* interface = static_cast<PartitionInterface*>(self);
  const auto parsed = parse_path(path);
  if (!parsed || !parsed->partition) return 0;
  const loopd::Device* device = interface->registry_.find(parsed->device);
  if (device == nullptr) return 0;
  const auto partition = device->partitions.find(*parsed->partition);
  if (partition == device->partitions.end()) return 0;
  interface->owner_ = device;
  interface->partition_ = &partition->second;
  interface->number_ = *parsed->partition;
  *found = interface;
  return 1;
}

std::string PartitionInterface::DevPath() { return owner().partition_dev_path(number_); }
uint64_t PartitionInterface::Dev() { return partition().dev; }
uint32_t PartitionInterface::Number() { return number_; }
uint64_t PartitionInterface::Offset() { return partition().entry.extent.offset; }
uint64_t PartitionInterface::Size() { return partition().entry.extent.size; }
sdbus::ObjectPath PartitionInterface::Device() { return sdbus::ObjectPath(owner().path()); }
const std::string& PartitionInterface::Type() { return partition().entry.type; }
const std::string& PartitionInterface::UUID() { return partition().entry.uuid; }
const std::string& PartitionInterface::Name() { return partition().entry.name; }

// As dbus/org.example.Loop1.xml has it; the test Contract compares them.
const sd_bus_vtable PartitionInterface::vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("DevPath", "s", get_property<&PartitionInterface::DevPath>, 0, constant),
    SD_BUS_PROPERTY("Dev", "t", get_property<&PartitionInterface::Dev>, 0, constant),
    SD_BUS_PROPERTY("Number", "u", get_property<&PartitionInterface::Number>, 0, constant),
    SD_BUS_PROPERTY("Offset", "t", get_property<&PartitionInterface::Offset>, 0, changing),
    SD_BUS_PROPERTY("Size", "t", get_property<&PartitionInterface::Size>, 0, changing),
    SD_BUS_PROPERTY("Device", "o", get_property<&PartitionInterface::Device>, 0, constant),
    SD_BUS_PROPERTY("Type", "s", get_property<&PartitionInterface::Type>, 0, changing),
    SD_BUS_PROPERTY("UUID", "s", get_property<&PartitionInterface::UUID>, 0, changing),
    SD_BUS_PROPERTY("Name", "s", get_property<&PartitionInterface::Name>, 0, changing),
    SD_BUS_VTABLE_END,
};

}  // namespace loopd
