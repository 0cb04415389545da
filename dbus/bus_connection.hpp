// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <systemd/sd-bus.h>

#include <map>
#include <memory>
#include <utility>

#include "dbus/authorizer.hpp"
#include "dbus/client_directory.hpp"
#include "dbus/device_object.hpp"
#include "dbus/gate.hpp"
#include "dbus/manager_object.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/partition_object.hpp"
#include "dbus/service_context.hpp"

namespace loopd {

// The object tree on the system bus, kept true to the registry.
class BusConnection final : private RegistryListener {
 public:
  // Takes the bus, which is attached to the event loop by whoever made it.
  // Throws sdbus::Error.
  BusConnection(sd_bus* bus, Operations& operations, TaskGroup& calls, Scheduler& scheduler,
                std::string version);
  ~BusConnection() override;

  // Asks for org.example.Loop1. Not before the tree is complete.
  void request_name();

  // Clients that have called and are still on the bus.
  size_t client_count() const { return clients_.size(); }

 private:
  using PartitionKey = std::pair<unsigned, unsigned>;

  Task<Caller> current_caller();
  uint64_t message_id();
  void device_added(const Device& device) override;
  void device_removed(const Device& device) override;
  void device_changed(const Device& device, const std::vector<std::string>& properties) override;
  void partition_added(const Device& device, unsigned partition) override;
  void partition_removed(const Device& device, unsigned partition) override;
  void partition_changed(const Device& device, unsigned partition,
                         const std::vector<std::string>& properties) override;

  sd_bus* bus_;  // owned by connection_
  uint64_t message_id_ = 0;
  const sd_bus_message* last_message_ = nullptr;
  uint64_t last_cookie_ = 0;
  std::unique_ptr<sdbus::IConnection> connection_;
  Gate gate_;
  Operations& operations_;
  ClientDirectory clients_;
  Authorizer authorizer_;
  ServiceContext context_;
  ManagerObject manager_;
  std::map<unsigned, std::unique_ptr<DeviceObject>> devices_;
  std::map<PartitionKey, std::unique_ptr<PartitionObject>> partitions_;
};

}  // namespace loopd
