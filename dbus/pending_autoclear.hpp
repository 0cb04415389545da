// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/mount_changes.hpp"
#include "dbus/operation_context.hpp"
#include "dbus/task_group.hpp"

namespace loopd {

// Sets the kernel's flag on a device whose autoclear is pending when it is used
// first. What may be a use is followed only while there is such a device: nobody
// else's mounts wake up an idle service. Event loop's thread only.
class PendingAutoclear final : private RegistryListener {
 public:
  // Both are borrowed.
  PendingAutoclear(OperationContext& context, TaskGroup& tasks);
  PendingAutoclear(const PendingAutoclear&) = delete;
  PendingAutoclear& operator=(const PendingAutoclear&) = delete;
  ~PendingAutoclear() override;

  // To be called when another block device has changed: it may lie on one of them.
  void look_soon();

 private:
  void device_added(const Device& device) override;
  void device_removed(const Device& device) override;
  void device_changed(const Device& device, const std::vector<std::string>& properties) override;
  void terms_changed(const Device& device) override;
  void partition_added(const Device&, unsigned) override {}
  void partition_removed(const Device&, unsigned) override {}
  void partition_changed(const Device&, unsigned, const std::vector<std::string>&) override {}

  void follow_mounts();
  std::vector<std::pair<Target, bool>> candidates() const;
  Task<void> look();
  Task<void> arm(Target target);

  OperationContext& context_;
  TaskGroup& tasks_;
  std::set<unsigned> pending_;
  std::set<Target> arming_;
  bool looking_ = false;
  bool look_again_ = false;
  std::optional<loop::MountChanges> mounts_;
  std::unique_ptr<Scheduler::Registration> mounts_source_;
};

}  // namespace loopd
