// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <set>
#include <string>

#include "core/unique_fd.hpp"
#include "dbus/operation_context.hpp"
#include "dbus/options.hpp"
#include "dbus/remove_operations.hpp"

namespace loopd {

// Attach and AttachPath.
class AttachOperations {
 public:
  // Both are borrowed.
  AttachOperations(OperationContext& context, RemoveOperations& removing)
      : context_(context), removing_(removing), files_(context.parts.scheduler) {}

  // Object paths.
  Task<std::string> attach(Caller caller, loop::UniqueFd file, Options options);
  Task<std::string> attach_path(Caller caller, std::string path, Options options);

 private:
  class Reservation;

  Task<std::string> attach_file(Caller caller, loop::UniqueFd file, AttachOptions options);
  NumberLocks::Lock take_number(unsigned number);
  Task<void> authorize_reference(Caller caller, const loop::AttachRequest& request, int file);
  Task<void> probe_block_size(uid_t uid, loop::AttachRequest& request);
  void promise(const Caller& caller, bool lease, loop::AttachmentTerms& terms) const;
  Task<loop::Attachment> attach_in_kernel(loop::AttachRequest request);
  Task<void> wait_until_ready(loop::Attachment& attachment);
  Task<void> refuse_too_many_partitions(loop::Attachment& attachment);
  Task<void> undo(loop::Attachment& attachment);
  Target publish(loop::Attachment& attachment);

  OperationContext& context_;
  RemoveOperations& removing_;
  KeyedLocks<loop::FileIdentity> files_;      // reuse and overlap are decided one after another for each file
  UserCounts attaching_;                      // counted into the limit
  std::set<std::string> pending_references_;  // of attaches under way
};

}  // namespace loopd
