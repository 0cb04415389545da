// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/bus_vtable.hpp"

#include "dbus/names.hpp"

namespace loopd {

BusSlot add_fallback_vtable(sd_bus* bus, const char* interface, const sd_bus_vtable* vtable,
                            sd_bus_object_find_t find, void* self) {
  sd_bus_slot* slot = nullptr;
  // Above the root: that has a vtable of its own, and one path can't have both kinds.
  const int r = sd_bus_add_fallback_vtable(bus, &slot, root_parent_path, interface, vtable, find, self);
  BusSlot added(slot);
  if (r < 0) throw sdbus::createError(-r, "cannot serve an interface");
  return added;
}

}  // namespace loopd
