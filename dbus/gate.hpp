// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <systemd/sd-bus.h>

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "dbus/bus_message.hpp"
#include "dbus/bus_slot.hpp"

namespace loopd {

// Stands before every object of a connection: a call of a method that is not in
// the method table is answered UnknownMethod, one with an argument that can't be
// read, as a handle that names no descriptor of the message, InvalidArgs, and
// GetManagedObjects, which sd-bus serves by itself, LimitsExceeded where the bus would cut
// us off for the reply. What tells udev's links waits until they are known. Everything else passes.
class Gate {
 public:
  struct Hooks {
    std::function<size_t()> managed_size;  // how many bytes all objects are now, about
    std::function<bool()> knows_symlinks;
    std::function<bool(const std::string& name)> has_left;  // a client that called
  };

  // `bus` must outlive it. Throws sdbus::Error.
  Gate(sd_bus* bus, Hooks hooks);
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // To be called when the links are known: the calls that waited for them are dispatched again.
  void let_in();

 private:
  static int on_message(sd_bus_message* message, void* self, sd_bus_error* error);
  bool check_size(sd_bus_message* message) const;
  int hold(sd_bus_message* message);
  bool has_room_for(std::string_view sender) const;

  sd_bus* bus_;
  Hooks hooks_;
  std::vector<MessageReference> waiting_;
  BusSlot slot_;
};

}  // namespace loopd
