// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/bus_connection.hpp"

#include "dbus/names.hpp"

namespace loopd {
namespace {

Task<Caller> identify(ClientDirectory& clients, std::string sender, bool interactive) {
  Caller caller;
  caller.uid = co_await clients.uid_of(sender);
  caller.name = std::move(sender);
  caller.interactive = interactive;
  co_return caller;
}

}  // namespace

BusConnection::BusConnection(sd_bus* bus, Operations& operations, TaskGroup& calls, Scheduler& scheduler,
                             std::string version)
    : bus_(bus),
      connection_(sdbus::createBusConnection(bus)),
      gate_(bus),
      operations_(operations),
      clients_(*connection_, bus),
      authorizer_(*connection_),
      context_{operations,
               calls,
               scheduler,
               std::move(version),
               [this] { return current_caller(); },
               [this] { return message_id(); }},
      manager_(*connection_, context_) {
  operations_.serve_bus(&authorizer_, &clients_);
  clients_.on_leave([this](const std::string& name) { context_.calls.start(operations_.client_left(name)); });
  operations_.registry().subscribe(*this);
  for (const auto& [number, device] : operations_.registry().devices()) {
    device_added(device);
    for (const auto& [partition, what] : device.partitions) partition_added(device, partition);
  }
}

BusConnection::~BusConnection() {
  operations_.registry().unsubscribe(*this);
  operations_.serve_bus(nullptr, nullptr);
}

void BusConnection::request_name() { connection_->requestName(sdbus::ServiceName(bus_name)); }

// Reads the message that is being dispatched now; the task asks the bus.
Task<Caller> BusConnection::current_caller() {
  sd_bus_message* message = sd_bus_get_current_message(bus_);
  const char* sender = message ? sd_bus_message_get_sender(message) : nullptr;
  const bool interactive = message && sd_bus_message_get_allow_interactive_authorization(message) > 0;
  return identify(clients_, sender ? sender : "", interactive);
}

uint64_t BusConnection::message_id() {
  sd_bus_message* message = sd_bus_get_current_message(bus_);
  uint64_t cookie = 0;
  if (message == nullptr || sd_bus_message_get_cookie(message, &cookie) < 0) return 0;
  // A freed message's address is used again, with another cookie.
  if (message != last_message_ || cookie != last_cookie_) {
    last_message_ = message;
    last_cookie_ = cookie;
    ++message_id_;
  }
  return message_id_;
}

void BusConnection::device_added(const Device& device) {
  const unsigned number = device.snapshot.number;
  auto object = std::make_unique<DeviceObject>(*connection_, context_, device);
  object->announce();
  devices_.insert_or_assign(number, std::move(object));
  manager_.device_count_changed();
}

void BusConnection::device_removed(const Device& device) {
  const auto found = devices_.find(device.snapshot.number);
  if (found == devices_.end()) return;
  found->second->retire();
  devices_.erase(found);
  manager_.device_count_changed();
}

void BusConnection::device_changed(const Device& device, const std::vector<std::string>& properties) {
  devices_.at(device.snapshot.number)->changed(properties);
}

void BusConnection::partition_added(const Device& device, unsigned partition) {
  auto object = std::make_unique<PartitionObject>(*connection_, operations_.registry(), device, partition);
  object->announce();
  partitions_.insert_or_assign(PartitionKey(device.snapshot.number, partition), std::move(object));
  devices_.at(device.snapshot.number)
      ->emitPartitionAdded(sdbus::ObjectPath(device.partition_path(partition)),
                           device.partition_dev_path(partition), partition);
}

void BusConnection::partition_removed(const Device& device, unsigned partition) {
  const auto found = partitions_.find(PartitionKey(device.snapshot.number, partition));
  if (found == partitions_.end()) return;
  devices_.at(device.snapshot.number)
      ->emitPartitionRemoved(sdbus::ObjectPath(device.partition_path(partition)),
                             device.partition_dev_path(partition), partition);
  found->second->retire();
  partitions_.erase(found);
}

void BusConnection::partition_changed(const Device& device, unsigned partition,
                                      const std::vector<std::string>& properties) {
  partitions_.at(PartitionKey(device.snapshot.number, partition))->changed(properties);
}

}  // namespace loopd
