// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <systemd/sd-bus.h>

#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "dbus/device_object.hpp"
#include "dbus/gate.hpp"
#include "dbus/manager_object.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/partition_object.hpp"
#include "dbus/scheduler.hpp"
#include "dbus/service_context.hpp"

namespace loopd {

// The objects of the contract on one connection, kept true to the registry. What
// is there already when it is made is not announced.
class ObjectTree final : private RegistryListener {
 public:
  // Both are the same connection, and must outlive it. `caller` and `connection`
  // are ServiceContext's.
  ObjectTree(sdbus::IConnection& connection, sd_bus* bus, const ServiceParts& parts,
             std::function<Task<Caller>()> caller, std::function<std::shared_ptr<void>()> alive);
  ~ObjectTree() override;

 private:
  using PartitionKey = std::pair<unsigned, unsigned>;

  uint64_t message_id();
  size_t managed_size();
  void count_changed();
  DeviceObject& add(const Device& device);
  PartitionObject& add(const Device& device, unsigned partition);
  void device_added(const Device& device) override;
  void device_removed(const Device& device) override;
  void device_changed(const Device& device, const std::vector<std::string>& properties) override;
  void partition_added(const Device& device, unsigned partition) override;
  void partition_removed(const Device& device, unsigned partition) override;
  void partition_changed(const Device& device, unsigned partition,
                         const std::vector<std::string>& properties) override;

  sdbus::IConnection& connection_;
  sd_bus* bus_;
  uint64_t message_id_ = 0;
  const sd_bus_message* last_message_ = nullptr;
  uint64_t last_cookie_ = 0;
  Gate gate_;
  ServiceContext context_;
  ManagerObject manager_;
  std::map<unsigned, std::unique_ptr<DeviceObject>> devices_;
  std::map<PartitionKey, std::unique_ptr<PartitionObject>> partitions_;
  std::unique_ptr<Scheduler::Registration> count_timer_;
};

}  // namespace loopd
