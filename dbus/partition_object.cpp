// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/partition_object.hpp"

#include "dbus/names.hpp"

namespace loopd {

PartitionObject::PartitionObject(sdbus::IConnection& connection, const ObjectRegistry& registry,
                                 const loopd::Device& device, unsigned partition)
    : AdaptorInterfaces(connection, sdbus::ObjectPath(device.partition_path(partition))),
      registry_(registry),
      device_number_(device.snapshot.number),
      number_(partition) {
  registerAdaptor();
}

PartitionObject::~PartitionObject() { unregisterAdaptor(); }

void PartitionObject::announce() { getObject().emitInterfacesAddedSignal(); }

void PartitionObject::retire() { getObject().emitInterfacesRemovedSignal(); }

void PartitionObject::changed(const std::vector<std::string>& properties) {
  const std::vector<sdbus::PropertyName> names(properties.begin(), properties.end());
  getObject().emitPropertiesChangedSignal(partition_interface, names);
}

std::string PartitionObject::DevPath() { return owner().partition_dev_path(number_); }
uint64_t PartitionObject::Dev() { return partition().dev; }
uint32_t PartitionObject::Number() { return number_; }
uint64_t PartitionObject::Offset() { return partition().entry.extent.offset; }
uint64_t PartitionObject::Size() { return partition().entry.extent.size; }
sdbus::ObjectPath PartitionObject::Device() { return sdbus::ObjectPath(owner().path()); }
std::string PartitionObject::Type() { return partition().entry.type; }
std::string PartitionObject::UUID() { return partition().entry.uuid; }
std::string PartitionObject::Name() { return partition().entry.name; }

}  // namespace loopd
