// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "core/device_snapshot.hpp"
#include "core/loop_manager.hpp"
#include "core/looptab.hpp"
#include "core/partition.hpp"

namespace loop {

// A device that is declared: by a line of looptab, which has a name, or by the
// image itself, whose path is the name then. The record of the attachment has
// the name, so that it is found again by whoever comes later.
struct Declaration {
  std::string name;
  std::string image;
  LoopTabOptions options;

  // Without the option, the name; an image by its path has none.
  std::string reference() const;
};

struct DeclaredDevice {
  DeviceSnapshot snapshot;
  std::vector<TableEntry> partitions;  // that were added just now
  bool adopted = false;                // it was there already
};

// Attaches what is declared, for root. One that is attached already, to the same file
// in the same way, is left as it is. Needs the manager's records. May block on the
// image's file system. Throws Error: file_not_found; device_busy where the name
// is attached to something else, or the reference is another device's; overlap;
// not_supported before Linux 5.15, which is without disk sequences; and what
// attaching throws.
DeclaredDevice attach_declared(LoopManager& manager, const Declaration& declaration);

// Removes what is declared under the name. False: nothing was attached. Waits for
// users to go for as long as told, and throws Error device_busy, which names them.
bool detach_declared(LoopManager& manager, const std::string& name, std::chrono::milliseconds patience);

}  // namespace loop
