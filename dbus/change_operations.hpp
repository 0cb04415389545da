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

 private:
  OperationContext& context_;
};

}  // namespace loopd
