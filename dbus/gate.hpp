// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <systemd/sd-bus.h>

#include <cstddef>
#include <functional>

#include "dbus/bus_slot.hpp"

namespace loopd {

// Stands before every object of a connection: a call of a method that is not in
// the method table is answered UnknownMethod, one with an argument that can't be
// read, as a handle that names no descriptor of the message, InvalidArgs, and
// GetManagedObjects, which sd-bus serves by itself, LimitsExceeded where the bus would cut
// us off for the reply. Everything else passes.
class Gate {
 public:
  // `bus` must outlive it. `managed_size` tells how many bytes all objects are now, about; it is
  // called while the message is dispatched. Throws sdbus::Error.
  Gate(sd_bus* bus, std::function<size_t()> managed_size);
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

 private:
  static int on_message(sd_bus_message* message, void* self, sd_bus_error* error);
  bool check_size(sd_bus_message* message) const;

  std::function<size_t()> managed_size_;
  BusSlot slot_;
};

}  // namespace loopd
