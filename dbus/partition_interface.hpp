// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <systemd/sd-bus.h>

#include <string>

#include "dbus/bus_vtable.hpp"
#include "dbus/object_registry.hpp"

namespace loopd {

// org.example.Loop1.Partition of every partition on one connection; as DeviceInterface.
class PartitionInterface {
 public:
  // Both must outlive it. Throws sdbus::Error.
  PartitionInterface(sd_bus* bus, const ObjectRegistry& registry);

  static const sd_bus_vtable vtable[];

 private:
  static int find(sd_bus*, const char* path, const char*, void* self, void** found, sd_bus_error*);

  std::string DevPath();
  uint64_t Dev();
  uint32_t Number();
  uint64_t Offset();
  uint64_t Size();
  sdbus::ObjectPath Device();
  const std::string& Type();
  const std::string& UUID();
  const std::string& Name();

  const loopd::Device& owner() const { return *owner_; }
  const Partition& partition() const { return *partition_; }

  const ObjectRegistry& registry_;
  BusSlot slot_;
  // That sd-bus asks about: set by find(), which it calls anew for each message and object.
  const loopd::Device* owner_ = nullptr;
  const Partition* partition_ = nullptr;
  unsigned number_ = 0;
};

}  // namespace loopd
