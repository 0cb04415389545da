// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <systemd/sd-bus.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dbus/bus_slot.hpp"
#include "dbus/device_interface.hpp"
#include "dbus/gate.hpp"
#include "dbus/manager_object.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/partition_interface.hpp"
#include "dbus/scheduler.hpp"
#include "dbus/service_context.hpp"

namespace loopd {

// The objects of the contract on one connection: those of the registry, looked up there
// whenever sd-bus asks, and its changes as signals. What is there already when it is made
// is not announced.
class ObjectTree final : private RegistryListener {
 public:
  // Both are the same connection, and must outlive it. `caller` and `alive` are ServiceContext's, `has_left`
  // is the gate's.
  ObjectTree(sdbus::IConnection& connection, sd_bus* bus, const ServiceParts& parts,
             std::function<Task<Caller>()> caller, std::function<std::shared_ptr<void>()> alive,
             std::function<bool(const std::string& name)> has_left);
  ~ObjectTree() override;

 private:
  Question question();
  size_t managed_size();
  void count_changed();
  BusSlot add_object_list(const char* path, sd_bus_node_enumerator_t list);
  static int list_below_root(sd_bus*, const char* path, void* self, char*** paths, sd_bus_error*);
  static int list_below_device(sd_bus*, const char* path, void* self, char*** paths, sd_bus_error*);

  void device_added(const Device& device) override;
  void device_removed(const Device& device) override;
  void device_changed(const Device& device, const std::vector<std::string>& properties) override;
  void partition_added(const Device& device, unsigned partition) override;
  void partition_removed(const Device& device, unsigned partition) override;
  void partition_changed(const Device& device, unsigned partition,
                         const std::vector<std::string>& properties) override;
  void symlinks_are_known() override;

  sd_bus* bus_;
  uint64_t message_id_ = 0;  // of the message that has these two
  std::string last_sender_;
  uint64_t last_cookie_ = 0;
  Gate gate_;
  ServiceContext context_;
  ManagerObject manager_;
  DeviceInterface devices_;
  PartitionInterface partitions_;
  BusSlot devices_list_;
  BusSlot partitions_list_;
  std::unique_ptr<Scheduler::Registration> count_timer_;
};

}  // namespace loopd
