// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <systemd/sd-bus.h>

#include <memory>

namespace loopd {

struct SlotUnref {
  void operator()(sd_bus_slot* slot) const { sd_bus_slot_unref(slot); }
};

// Something that is registered at a connection, for as long as this lives.
using BusSlot = std::unique_ptr<sd_bus_slot, SlotUnref>;

}  // namespace loopd
