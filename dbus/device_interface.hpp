// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <systemd/sd-bus.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dbus/bus_vtable.hpp"
#include "dbus/service_context.hpp"

namespace loopd {

// org.example.Loop1 of every device on one connection. One vtable serves all paths: sd-bus
// asks whose object a path is, and the registry says it. What is registered object by
// object, as sdbus-c++ does it, costs thirteen kilobytes and some 60 µs a device, once
// for each connection.
class DeviceInterface {
 public:
  // `bus` and `context` must outlive it. Throws sdbus::Error.
  DeviceInterface(sd_bus* bus, ServiceContext& context);

  static const sd_bus_vtable vtable[];

 private:
  using Options = std::map<std::string, sdbus::Variant>;

  static int find(sd_bus*, const char* path, const char*, void* self, void** found, sd_bus_error*);

  void Resize(CallResult<uint64_t, uint64_t> result);
  void ResizeWithOptions(CallResult<uint64_t, uint64_t> result, Options options);
  void Open(CallResult<sdbus::UnixFd> result, std::string mode);
  void SetAutoclear(CallResult<> result, bool enable);
  void SetDirectIO(CallResult<> result, bool enable);
  void RescanPartitions(CallResult<> result);
  void Remove(CallResult<> result);
  void RemoveWithOptions(CallResult<> result, Options options);

  std::string DevPath();
  uint64_t Dev();
  std::string BackingFile();
  std::vector<uint8_t> BackingFileBytes();
  bool BackingFileDeleted();
  uint64_t BackingFileSize();
  uint64_t BackingInode();
  uint64_t BackingDev();
  uint32_t Number();
  uint64_t DiskSequence();
  uint64_t Size();
  uint64_t Offset();
  uint64_t SizeLimit();
  uint32_t BlockSize();
  bool ReadOnly();
  bool Autoclear();
  bool PartitionScan();
  bool DirectIO();
  const std::string& Reference();
  uint32_t OwnerUID();
  std::string Lease();
  std::vector<sdbus::ObjectPath> Partitions();
  const std::vector<std::string>& Symlinks();

  const Device& device() const { return *device_; }
  const loop::DeviceSnapshot& snapshot() const { return device().snapshot; }
  const loop::DeviceSnapshot& fresh_snapshot(loop::Volatile what);
  Target target() const { return {number_, snapshot().disk_sequence}; }

  ServiceContext& context_;
  BusSlot slot_;
  // That sd-bus asks about: set by find(), which it calls anew for each message and object.
  const Device* device_ = nullptr;
  unsigned number_ = 0;
  uint64_t refreshed_for_ = 0;     // the message
  unsigned refreshed_number_ = 0;  // and the device
};

}  // namespace loopd
