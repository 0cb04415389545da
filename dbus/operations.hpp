// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include "dbus/attach_operations.hpp"
#include "dbus/change_operations.hpp"
#include "dbus/find_operations.hpp"
#include "dbus/operation_context.hpp"
#include "dbus/pending_autoclear.hpp"
#include "dbus/remove_operations.hpp"

namespace loopd {

// What the methods of the contract do, each to be read from top to bottom:
// decode, authorize, do, publish. Objects on the bus only hand their calls on to
// here, as they may be gone while a call is still under way. Throws what
// errors.hpp knows. Event loop's thread only.
class Operations {
 public:
  // `tasks` is borrowed: what the service does of its own.
  Operations(OperationContext::Parts parts, Limits limits, TaskGroup& tasks)
      : context_(parts, limits),
        removing_(context_, tasks),
        attaching_(context_, removing_),
        finding_(context_, tasks),
        changing_(context_),
        pending_autoclear_(context_, tasks) {}

  const Limits& limits() const { return context_.limits; }
  ObjectRegistry& registry() { return context_.parts.registry; }

  AttachOperations& attaching() { return attaching_; }
  FindOperations& finding() { return finding_; }
  ChangeOperations& changing() { return changing_; }
  RemoveOperations& removing() { return removing_; }

  PendingAutoclear& pending_autoclear() { return pending_autoclear_; }

 private:
  OperationContext context_;
  RemoveOperations removing_;
  AttachOperations attaching_;
  FindOperations finding_;
  ChangeOperations changing_;
  PendingAutoclear pending_autoclear_;
};

}  // namespace loopd
