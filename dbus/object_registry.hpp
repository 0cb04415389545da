// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/attachment_records.hpp"
#include "core/device_snapshot.hpp"
#include "core/loop_kernel.hpp"
#include "core/partition.hpp"

namespace loopd {

// One attachment: what a caller saw as a device's object.
struct Target {
  unsigned number = 0;
  uint64_t disk_sequence = 0;

  auto operator<=>(const Target&) const = default;
};

struct Partition {
  loop::TableEntry entry;
  dev_t dev = 0;

  bool operator==(const Partition&) const = default;
};

// One attached device as clients see it.
struct Device {
  loop::DeviceSnapshot snapshot;
  loop::AttachmentTerms terms;
  std::vector<std::string> symlinks;
  std::map<unsigned, Partition> partitions;

  std::string path() const;
  std::string partition_path(unsigned partition) const;
  std::string partition_dev_path(unsigned partition) const;
};

// Whether it still is the attachment that is published. Detached this moment, its event may still be on its
// way; or its number is claimed by an attach, which will publish what it becomes, and its file's inode may
// be another's by then.
bool is_attached(const loop::LoopKernel& kernel, const Device& device);

// Hears of every change in the registry, after it. Property names are those of
// the contract.
class RegistryListener {
 public:
  virtual ~RegistryListener() = default;
  virtual void device_added(const Device& device) = 0;
  virtual void device_removed(const Device& device) = 0;
  virtual void device_changed(const Device& device, const std::vector<std::string>& properties) = 0;
  // What is not shown on the bus of what holds for a device.
  virtual void terms_changed(const Device&) {}
  virtual void partition_added(const Device& device, unsigned partition) = 0;
  virtual void partition_removed(const Device& device, unsigned partition) = 0;
  virtual void partition_changed(const Device& device, unsigned partition,
                                 const std::vector<std::string>& properties) = 0;
  // All that was there at the start has its links by now.
  virtual void symlinks_are_known() {}
};

// The devices that are published. A mirror of the kernel's state, never a source
// of decisions about it. Event loop's thread only.
class ObjectRegistry {
 public:
  // The listener must outlive its subscription. It hears of what comes, not of
  // what is there.
  void subscribe(RegistryListener& listener);
  void unsubscribe(RegistryListener& listener);

  // Adds a device, or tells the differences to what is known of it. Another disk
  // sequence is another device: the old one is withdrawn first.
  void publish(Device device);
  void withdraw(unsigned number);
  void withdraw(unsigned number, uint64_t disk_sequence);  // that attachment alone

  // What is there at the start is published without udev's links, which take longer to find than all the
  // rest. To add them is no change: who asks for them waits until they are known (Gate).
  void add_symlinks(const Target& device, std::vector<std::string> symlinks);
  void know_symlinks();  // of all
  bool knows_symlinks() const { return knows_symlinks_; }

  const Device* find(unsigned number) const;
  const std::map<unsigned, Device>& devices() const { return devices_; }

  // Those that the file is attached to, as far as it is known what is.
  std::vector<const Device*> backed_by(const loop::FileIdentity& file) const;

  // Those that have the reference: more than one where one is gone and its event is on its way.
  std::vector<const Device*> find_reference(const std::string& reference) const;

  // A loop device is attached to this one, or to a partition of it.
  bool has_loop_device_on_top(const Device& device) const;

  size_t count_owned_by(uid_t uid) const;

 private:
  void update(Device& known, Device&& now);
  void update_partitions(Device& known, std::map<unsigned, Partition>&& now);

  // What is asked for each attach: to go through thousands of devices would take as long as the rest of it.
  void add_to_indices(const Device& device);
  void remove_from_indices(const Device& device);
  std::vector<const Device*> found(const auto& range) const;

  std::map<unsigned, Device> devices_;
  std::multimap<loop::FileIdentity, unsigned> by_file_;
  std::multimap<std::string, unsigned> by_reference_;
  std::map<uid_t, size_t> owned_;
  std::set<RegistryListener*> listeners_;
  bool knows_symlinks_ = false;
};

}  // namespace loopd
