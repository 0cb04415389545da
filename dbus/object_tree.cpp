// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/object_tree.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "dbus/names.hpp"
#include "dbus/object_path.hpp"
#include "dbus/reply_limit.hpp"

namespace loopd {
namespace {

// A connection that breaks while its clients are told of a change is dropped by
// whoever reads from it, and a signal that cannot be sent is lost to that connection.
// What the others are told does not depend on it.
void told(int) {}

bool is_member(sd_bus_message* message, std::string_view name) {
  const char* member = sd_bus_message_get_member(message);
  return member != nullptr && member == name;
}

// Such as sd-bus takes it for its own. Null: no memory.
char** to_strv(const std::vector<std::string>& strings) {
  auto** strv = static_cast<char**>(std::calloc(strings.size() + 1, sizeof(char*)));
  if (strv == nullptr) return nullptr;
  for (size_t i = 0; i < strings.size(); ++i) {
    strv[i] = ::strdup(strings[i].c_str());
    if (strv[i] != nullptr) continue;
    while (i > 0) std::free(strv[--i]);
    std::free(strv);
    return nullptr;
  }
  return strv;
}

// The reply of an enumerator; `append` fills the list.
template <typename Append>
int give_paths(char*** paths, Append append) {
  try {
    std::vector<std::string> objects;
    append(objects);
    *paths = to_strv(objects);
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
  return *paths != nullptr ? 0 : -ENOMEM;
}

void append_partitions(const Device& device, std::vector<std::string>& objects) {
  for (const auto& [number, partition] : device.partitions) objects.push_back(device.partition_path(number));
}

void tell_change(sd_bus* bus, const std::string& path, const char* interface,
                 const std::vector<std::string>& properties) {
  std::vector<char*> names;
  names.reserve(properties.size() + 1);
  for (const std::string& name : properties) names.push_back(const_cast<char*>(name.c_str()));
  names.push_back(nullptr);
  told(sd_bus_emit_properties_changed_strv(bus, path.c_str(), interface, names.data()));
}

// By name, as the registry has no such object any more that sd-bus could ask.
void tell_removal(sd_bus* bus, const std::string& path, const char* interface) {
  told(sd_bus_emit_interfaces_removed(bus, path.c_str(), "org.freedesktop.DBus.Peer",
                                      "org.freedesktop.DBus.Introspectable",
                                      "org.freedesktop.DBus.Properties", interface, nullptr));
}

}  // namespace

ObjectTree::ObjectTree(sdbus::IConnection& connection, sd_bus* bus, const ServiceParts& parts,
                       std::function<Task<Caller>()> caller, std::function<std::shared_ptr<void>()> alive,
                       std::function<bool(const std::string&)> has_left)
    : bus_(bus),
      gate_(bus, {[this] { return managed_size(); },
                  [this] { return context_.operations.registry().knows_symlinks(); }, std::move(has_left)}),
      context_{parts, std::move(caller), [this] { return question(); }, std::move(alive)},
      manager_(connection, context_),
      devices_(bus, context_),
      partitions_(bus, context_.operations.registry()) {
  devices_list_ = add_object_list(root_path, list_below_root);
  partitions_list_ = add_object_list(root_parent_path, list_below_device);  // beside the devices' vtable
  context_.operations.registry().subscribe(*this);
}

ObjectTree::~ObjectTree() { context_.operations.registry().unsubscribe(*this); }

BusSlot ObjectTree::add_object_list(const char* path, sd_bus_node_enumerator_t list) {
  sd_bus_slot* slot = nullptr;
  const int r = sd_bus_add_node_enumerator(bus_, &slot, path, list, this);
  BusSlot added(slot);
  if (r < 0) throw sdbus::createError(-r, "cannot list the objects of a connection");
  return added;
}

Question ObjectTree::question() {
  sd_bus_message* message = sd_bus_get_current_message(bus_);
  uint64_t cookie = 0;
  if (message == nullptr || sd_bus_message_get_cookie(message, &cookie) < 0) return {};
  if (is_member(message, "GetManagedObjects")) return {};  // looked at all together
  // Each client counts its messages, and no two clients of a bus ever have one name.
  const char* sender = sd_bus_message_get_sender(message);
  const std::string_view name = sender ? sender : "";
  if (cookie != last_cookie_ || name != last_sender_) {
    last_cookie_ = cookie;
    last_sender_ = name;
    ++message_id_;
  }
  return {message_id_, is_member(message, "Get")};
}

// Of what was told so far, which is what the reply is made of. What the kernel changed
// without telling comes as signals, after it.
size_t ObjectTree::managed_size() {
  context_.operations.finding().refresh_all_soon();
  size_t bytes = 0;
  for (const auto& [number, device] : context_.operations.registry().devices()) {
    bytes += loopd::managed_size(device);
  }
  return bytes;
}

// Introspection asks for children, GetManagedObjects for all that is below: sd-bus asks
// the same of us for both. And where it introspects a device, it asks here too, on its way
// up to the vtable, and takes any answer for all there is.
int ObjectTree::list_below_root(sd_bus*, const char* path, void* self, char*** paths, sd_bus_error*) {
  if (std::string_view(path) != root_path) return 0;
  const auto* tree = static_cast<ObjectTree*>(self);
  sd_bus_message* message = sd_bus_get_current_message(tree->bus_);
  const bool children_only = message != nullptr && is_member(message, "Introspect");
  return give_paths(paths, [&](std::vector<std::string>& objects) {
    for (const auto& [number, device] : tree->context_.operations.registry().devices()) {
      objects.push_back(device.path());
      if (!children_only) append_partitions(device, objects);
    }
  });
}

int ObjectTree::list_below_device(sd_bus*, const char* path, void* self, char*** paths, sd_bus_error*) {
  const auto parsed = parse_path(path);
  if (!parsed || parsed->partition) return 0;
  const Device* device = static_cast<ObjectTree*>(self)->context_.operations.registry().find(parsed->device);
  if (device == nullptr) return 0;
  return give_paths(paths, [&](std::vector<std::string>& objects) { append_partitions(*device, objects); });
}

void ObjectTree::device_added(const Device& device) {
  told(sd_bus_emit_object_added(bus_, device.path().c_str()));
  count_changed();
}

void ObjectTree::device_removed(const Device& device) {
  tell_removal(bus_, device.path(), device_interface);
  count_changed();
}

// Once for all that came and went together, and not before the answer to whom it was done for.
void ObjectTree::count_changed() {
  if (count_timer_) return;
  count_timer_ = context_.scheduler.at(Clock::now(), [this] {
    count_timer_.reset();
    try {
      manager_.device_count_changed();
    } catch (const sdbus::Error&) {  // as above
    }
  });
}

void ObjectTree::symlinks_are_known() { gate_.let_in(); }

void ObjectTree::device_changed(const Device& device, const std::vector<std::string>& properties) {
  tell_change(bus_, device.path(), device_interface, properties);
}

void ObjectTree::partition_added(const Device& device, unsigned partition) {
  const std::string path = device.partition_path(partition);
  told(sd_bus_emit_object_added(bus_, path.c_str()));
  told(sd_bus_emit_signal(bus_, device.path().c_str(), device_interface, "PartitionAdded", "osu",
                          path.c_str(), device.partition_dev_path(partition).c_str(), partition));
}

void ObjectTree::partition_removed(const Device& device, unsigned partition) {
  const std::string path = device.partition_path(partition);
  told(sd_bus_emit_signal(bus_, device.path().c_str(), device_interface, "PartitionRemoved", "osu",
                          path.c_str(), device.partition_dev_path(partition).c_str(), partition));
  tell_removal(bus_, path, partition_interface);
}

void ObjectTree::partition_changed(const Device& device, unsigned partition,
                                   const std::vector<std::string>& properties) {
  tell_change(bus_, device.partition_path(partition), partition_interface, properties);
}

}  // namespace loopd
