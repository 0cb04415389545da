// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

#include "core/resizing.hpp"
#include "core/unique_fd.hpp"
#include "dbus/operation_context.hpp"
#include "dbus/options.hpp"

namespace loopd {

// What changes an attached device, or gives it out of hand.
class ChangeOperations {
 public:
  // Borrowed.
  explicit ChangeOperations(OperationContext& context) : context_(context) {}

  Task<loop::DeviceSizes> resize(Caller caller, Target target, Options options);
  Task<loop::UniqueFd> open(Caller caller, Target target, std::string mode);
  Task<void> set_autoclear(Caller caller, Target target, bool enable);
  Task<void> set_direct_io(Caller caller, Target target, bool enable);
  Task<void> rescan_partitions(Caller caller, Target target);

  // To be called when a mount, swap or other block device may have come: sets the
  // kernel's flag on devices whose autoclear is pending and that are used now.
  Task<void> arm_autoclear();

 private:
  OperationContext& context_;
};

}  // namespace loopd
