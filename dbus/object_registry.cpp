// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/object_registry.hpp"

#include <algorithm>
#include <utility>

#include "core/snapshot_reading.hpp"
#include "dbus/names.hpp"

namespace loopd {
namespace {

std::vector<std::string> differences(const Device& a, const Device& b) {
  std::vector<std::string> names;
  auto compare = [&](const char* name, const auto& x, const auto& y) {
    if (!(x == y)) names.emplace_back(name);
  };
  const loop::DeviceSnapshot& s = a.snapshot;
  const loop::DeviceSnapshot& t = b.snapshot;
  compare("BackingFile", s.backing_file, t.backing_file);
  compare("BackingFileBytes", s.backing_file, t.backing_file);
  compare("BackingFileDeleted", s.backing_file_deleted, t.backing_file_deleted);
  compare("BackingFileSize", s.backing_size, t.backing_size);
  compare("BackingInode", s.backing.inode, t.backing.inode);
  compare("BackingDev", s.backing.dev, t.backing.dev);
  compare("Size", s.size, t.size);
  compare("Offset", s.offset, t.offset);
  compare("SizeLimit", s.size_limit, t.size_limit);
  compare("BlockSize", s.block_size, t.block_size);
  compare("ReadOnly", s.read_only, t.read_only);
  compare("Autoclear", s.autoclear, t.autoclear);
  compare("PartitionScan", s.kernel_partition_scan || a.terms.keeps_partitions,
          t.kernel_partition_scan || b.terms.keeps_partitions);
  compare("DirectIO", s.direct_io, t.direct_io);
  compare("Reference", s.reference, t.reference);
  compare("OwnerUID", a.terms.owner, b.terms.owner);
  compare("Lease", a.terms.lease, b.terms.lease);
  compare("Symlinks", a.symlinks, b.symlinks);
  return names;
}

std::vector<std::string> differences(const Partition& a, const Partition& b) {
  std::vector<std::string> names;
  auto compare = [&](const char* name, const auto& x, const auto& y) {
    if (x != y) names.emplace_back(name);
  };
  compare("Size", a.entry.extent.size, b.entry.extent.size);
  compare("Type", a.entry.type, b.entry.type);
  compare("UUID", a.entry.uuid, b.entry.uuid);
  compare("Name", a.entry.name, b.entry.name);
  return names;
}

// A partition that begins elsewhere or has another node is another partition.
bool same_partition(const Partition& a, const Partition& b) {
  return a.entry.extent.offset == b.entry.extent.offset && a.dev == b.dev;
}

}  // namespace

std::string Device::path() const {
  return std::string(root_path) + "/loop" + std::to_string(snapshot.number);
}

std::string Device::partition_path(unsigned partition) const {
  return path() + "/p" + std::to_string(partition);
}

std::string Device::partition_dev_path(unsigned partition) const {
  return snapshot.dev_path() + "p" + std::to_string(partition);
}

bool is_attached(const loop::LoopKernel& kernel, const Device& device) {
  return loop::is_attached(kernel, device.snapshot.number, device.snapshot.disk_sequence);
}

void ObjectRegistry::subscribe(RegistryListener& listener) { listeners_.insert(&listener); }

void ObjectRegistry::unsubscribe(RegistryListener& listener) { listeners_.erase(&listener); }

void ObjectRegistry::publish(Device device) {
  const unsigned number = device.snapshot.number;
  const auto found = devices_.find(number);
  if (found != devices_.end() && found->second.snapshot.disk_sequence == device.snapshot.disk_sequence) {
    update(found->second, std::move(device));
    return;
  }
  withdraw(number);
  // Complete when it is announced, its partitions included.
  const Device& known = devices_.emplace(number, std::move(device)).first->second;
  add_to_indices(known);
  for (RegistryListener* listener : listeners_) {
    listener->device_added(known);
    for (const auto& [partition, what] : known.partitions) listener->partition_added(known, partition);
  }
}

void ObjectRegistry::withdraw(unsigned number) {
  const auto found = devices_.find(number);
  if (found == devices_.end()) return;
  Device& known = found->second;
  while (!known.partitions.empty()) {
    const unsigned partition = known.partitions.begin()->first;
    known.partitions.erase(known.partitions.begin());
    for (RegistryListener* listener : listeners_) listener->partition_removed(known, partition);
  }
  remove_from_indices(known);
  const Device gone = std::move(known);
  devices_.erase(found);
  for (RegistryListener* listener : listeners_) listener->device_removed(gone);
}

void ObjectRegistry::withdraw(unsigned number, uint64_t disk_sequence) {
  const Device* known = find(number);
  if (known != nullptr && known->snapshot.disk_sequence == disk_sequence) withdraw(number);
}

void ObjectRegistry::add_symlinks(const Target& device, std::vector<std::string> symlinks) {
  const auto found = devices_.find(device.number);
  if (found == devices_.end() || found->second.snapshot.disk_sequence != device.disk_sequence) return;
  found->second.symlinks = std::move(symlinks);
}

void ObjectRegistry::know_symlinks() {
  if (std::exchange(knows_symlinks_, true)) return;
  for (RegistryListener* listener : listeners_) listener->symlinks_are_known();
}

void ObjectRegistry::update(Device& known, Device&& now) {
  std::map<unsigned, Partition> partitions = std::exchange(now.partitions, {});
  const std::vector<std::string> changed = differences(known, now);
  const bool other_terms = !(known.terms == now.terms);
  now.partitions = std::exchange(known.partitions, {});
  remove_from_indices(known);
  known = std::move(now);
  add_to_indices(known);
  if (other_terms) {
    for (RegistryListener* listener : listeners_) listener->terms_changed(known);
  }
  if (!changed.empty()) {
    for (RegistryListener* listener : listeners_) listener->device_changed(known, changed);
  }
  update_partitions(known, std::move(partitions));
}

void ObjectRegistry::update_partitions(Device& known, std::map<unsigned, Partition>&& now) {
  bool membership_changed = false;
  for (auto it = known.partitions.begin(); it != known.partitions.end();) {
    const auto still = now.find(it->first);
    if (still != now.end() && same_partition(it->second, still->second)) {
      ++it;
      continue;
    }
    const unsigned number = it->first;
    it = known.partitions.erase(it);
    membership_changed = true;
    for (RegistryListener* listener : listeners_) listener->partition_removed(known, number);
  }
  for (auto& [number, partition] : now) {
    const auto [it, added] = known.partitions.try_emplace(number, partition);
    if (added) {
      membership_changed = true;
      for (RegistryListener* listener : listeners_) listener->partition_added(known, number);
      continue;
    }
    const std::vector<std::string> changed = differences(it->second, partition);
    if (changed.empty()) continue;
    it->second = std::move(partition);
    for (RegistryListener* listener : listeners_) listener->partition_changed(known, number, changed);
  }
  if (membership_changed) {
    for (RegistryListener* listener : listeners_) listener->device_changed(known, {"Partitions"});
  }
}

const Device* ObjectRegistry::find(unsigned number) const {
  const auto found = devices_.find(number);
  return found == devices_.end() ? nullptr : &found->second;
}

void ObjectRegistry::add_to_indices(const Device& device) {
  const unsigned number = device.snapshot.number;
  if (device.snapshot.identified) by_file_.emplace(device.snapshot.backing, number);
  if (!device.snapshot.reference.empty()) by_reference_.emplace(device.snapshot.reference, number);
  ++owned_[device.terms.owner];
}

void ObjectRegistry::remove_from_indices(const Device& device) {
  const auto erase = [number = device.snapshot.number](auto& index, const auto& key) {
    const auto [begin, end] = index.equal_range(key);
    const auto entry = std::find_if(begin, end, [number](const auto& one) { return one.second == number; });
    if (entry != end) index.erase(entry);
  };
  erase(by_file_, device.snapshot.backing);
  erase(by_reference_, device.snapshot.reference);
  if (--owned_[device.terms.owner] == 0) owned_.erase(device.terms.owner);
}

std::vector<const Device*> ObjectRegistry::found(const auto& range) const {
  std::vector<const Device*> devices;
  for (auto entry = range.first; entry != range.second; ++entry) devices.push_back(find(entry->second));
  return devices;
}

std::vector<const Device*> ObjectRegistry::backed_by(const loop::FileIdentity& file) const {
  return found(by_file_.equal_range(file));
}

std::vector<const Device*> ObjectRegistry::find_reference(const std::string& reference) const {
  return found(by_reference_.equal_range(reference));
}

bool ObjectRegistry::has_loop_device_on_top(const Device& device) const {
  const auto is_attached_to = [this](dev_t dev) { return by_file_.contains({true, dev, 0}); };
  return is_attached_to(device.snapshot.dev) ||
         std::any_of(device.partitions.begin(), device.partitions.end(),
                     [&](const auto& partition) { return is_attached_to(partition.second.dev); });
}

size_t ObjectRegistry::count_owned_by(uid_t uid) const {
  const auto count = owned_.find(uid);
  return count == owned_.end() ? 0 : count->second;
}

}  // namespace loopd
