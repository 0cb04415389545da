// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/object_tree.hpp"

#include "dbus/reply_limit.hpp"

namespace loopd {
namespace {

// A connection that breaks while its clients are told of a change is dropped by
// whoever reads from it. What the others are told does not depend on it.
template <typename Tell>
void tell(Tell tell_clients) {
  try {
    tell_clients();
  } catch (const sdbus::Error&) {
  }
}

}  // namespace

ObjectTree::ObjectTree(sdbus::IConnection& connection, sd_bus* bus, const ServiceParts& parts,
                       std::function<Task<Caller>()> caller, std::function<std::shared_ptr<void>()> alive)
    : connection_(connection),
      bus_(bus),
      gate_(bus, [this] { return managed_size(); }),
      context_{parts, std::move(caller), [this] { return message_id(); }, std::move(alive)},
      manager_(connection, context_) {
  context_.operations.registry().subscribe(*this);
  for (const auto& [number, device] : context_.operations.registry().devices()) {
    add(device);
    for (const auto& [partition, what] : device.partitions) add(device, partition);
  }
}

ObjectTree::~ObjectTree() { context_.operations.registry().unsubscribe(*this); }

uint64_t ObjectTree::message_id() {
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

// Of what the reply would say, so as things are now; it does not read them once more then.
size_t ObjectTree::managed_size() {
  size_t bytes = 0;
  for (const auto& [number, object] : devices_) {
    object->refresh();
    bytes += loopd::managed_size(*context_.operations.registry().find(number));
  }
  return bytes;
}

DeviceObject& ObjectTree::add(const Device& device) {
  auto object = std::make_unique<DeviceObject>(connection_, context_, device);
  return *(devices_[device.snapshot.number] = std::move(object));
}

PartitionObject& ObjectTree::add(const Device& device, unsigned partition) {
  auto object =
      std::make_unique<PartitionObject>(connection_, context_.operations.registry(), device, partition);
  return *(partitions_[PartitionKey(device.snapshot.number, partition)] = std::move(object));
}

void ObjectTree::device_added(const Device& device) {
  DeviceObject& object = add(device);
  tell([&] { object.announce(); });
  count_changed();
}

void ObjectTree::device_removed(const Device& device) {
  const auto found = devices_.find(device.snapshot.number);
  if (found == devices_.end()) return;
  tell([&] { found->second->retire(); });
  devices_.erase(found);
  count_changed();
}

// Once for all that came and went together, and not before the answer to whom it was done for.
void ObjectTree::count_changed() {
  if (count_timer_) return;
  count_timer_ = context_.scheduler.at(Clock::now(), [this] {
    count_timer_.reset();
    tell([&] { manager_.device_count_changed(); });
  });
}

void ObjectTree::device_changed(const Device& device, const std::vector<std::string>& properties) {
  tell([&] { devices_.at(device.snapshot.number)->changed(properties); });
}

void ObjectTree::partition_added(const Device& device, unsigned partition) {
  PartitionObject& object = add(device, partition);
  tell([&] { object.announce(); });
  tell([&] {
    devices_.at(device.snapshot.number)
        ->emitPartitionAdded(sdbus::ObjectPath(device.partition_path(partition)),
                             device.partition_dev_path(partition), partition);
  });
}

void ObjectTree::partition_removed(const Device& device, unsigned partition) {
  const auto found = partitions_.find(PartitionKey(device.snapshot.number, partition));
  if (found == partitions_.end()) return;
  tell([&] {
    devices_.at(device.snapshot.number)
        ->emitPartitionRemoved(sdbus::ObjectPath(device.partition_path(partition)),
                               device.partition_dev_path(partition), partition);
  });
  tell([&] { found->second->retire(); });
  partitions_.erase(found);
}

void ObjectTree::partition_changed(const Device& device, unsigned partition,
                                   const std::vector<std::string>& properties) {
  tell([&] { partitions_.at(PartitionKey(device.snapshot.number, partition))->changed(properties); });
}

}  // namespace loopd
