// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/reply_limit.hpp"

#include "core/utf8.hpp"

namespace loopd {
namespace {

// Of an object without its strings: names of interfaces and properties, types, numbers, padding.
constexpr size_t bare_device = 900;
constexpr size_t bare_partition = 420;
// Of a string or path in an array: its length, zero and padding.
constexpr size_t around_item = 12;

size_t managed_size(const Device& device, unsigned number, const Partition& partition) {
  const std::string path = device.partition_path(number);
  // The path is the object's and in the device's list; the device's own is a property.
  return bare_partition + 2 * path.size() + around_item + device.path().size() +
         device.partition_dev_path(number).size() + partition.entry.type.size() +
         partition.entry.uuid.size() + partition.entry.name.size();
}

}  // namespace

size_t managed_size(const Device& device) {
  const loop::DeviceSnapshot& snapshot = device.snapshot;
  size_t bytes = bare_device + device.path().size() + snapshot.dev_path().size() +
                 snapshot.backing_file.size() + loop::escape_to_utf8(snapshot.backing_file).size() +
                 snapshot.reference.size() + device.terms.lease.size();
  for (const std::string& link : device.symlinks) bytes += link.size() + around_item;
  for (const auto& [number, partition] : device.partitions) bytes += managed_size(device, number, partition);
  return bytes;
}

std::string too_large(size_t bytes) {
  return "the reply would have about " + std::to_string(bytes >> 20) +
         " MiB, and the bus lets through 32: ask for the devices one by one";
}

}  // namespace loopd
