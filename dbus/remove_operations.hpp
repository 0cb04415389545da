// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/removal.hpp"
#include "dbus/client_directory.hpp"
#include "dbus/operation_context.hpp"
#include "dbus/options.hpp"
#include "dbus/task_group.hpp"

namespace loopd {

// What follows the answer to a removal. A device's object has to stay until its
// calls are answered: sd-bus checks a reply against the method's description,
// which the object owns. Nothing else is dispatched between the answer and this,
// so that the caller's next message finds it gone. Holds the number's lock and
// claim. Does it all in the destructor at the latest.
class AfterRemoval {
 public:
  AfterRemoval() = default;
  AfterRemoval(OperationContext& context, Target target, NumberLocks::Lock lock);
  AfterRemoval(AfterRemoval&& other) noexcept;
  AfterRemoval& operator=(AfterRemoval&&) = delete;
  ~AfterRemoval() { end(); }

  void end();

  bool gone = false;  // the device, at once

 private:
  OperationContext* context_ = nullptr;
  Target target_;
  NumberLocks::Lock lock_;
  loop::NumberClaims::Claim claim_;
};

// Remove, and the leases that end in it.
class RemoveOperations {
 public:
  // Both are borrowed; the group is for leases whose end nobody waits for any more.
  RemoveOperations(OperationContext& context, TaskGroup& tasks) : context_(context), tasks_(tasks) {}

  Task<AfterRemoval> remove(Caller caller, Target target, Options options);

  // Ends what the client held: its leases.
  Task<void> client_left(std::string clientele, std::string name);

  // At start: private peers of a service before this one are gone with it.
  Task<void> end_private_leases();

  // When the bus is there: ends the leases of clients that left unheard, while no
  // service ran, or with the bus before: names start anew on another.
  Task<void> check_leases(std::shared_ptr<ClientDirectory> bus);

  // Removes the device, lazily if it is in use. Where that can't be done now, it is tried again
  // until it is gone.
  Task<void> end_lease(Target target);

 private:
  // One more removal of a user that may wait long. Throws LimitsExceeded.
  UserCounts::One wait_long(uid_t uid);
  std::map<Target, loop::AttachmentTerms> leases() const;
  Task<void> end_leases(std::vector<Target> targets);
  Task<bool> try_to_end_lease(Target target);
  Task<void> end_lease_later(Target target);
  Task<bool> wait_for_close(std::shared_ptr<loop::Removal> removal, Clock::time_point deadline);
  Task<std::shared_ptr<loop::Removal>> make_removal(Target target, loop::RemovalOptions options);
  Task<AfterRemoval> remove_now(Target target, RemoveOptions options, std::string why);  // for the log
  Task<loop::Removal::State> try_removal(std::shared_ptr<loop::Removal> removal, Target target);
  void defer_removal(Target target, bool keep_node);

  OperationContext& context_;
  TaskGroup& tasks_;
  UserCounts waiting_;  // removals that may wait long
};

}  // namespace loopd
