// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "core/loop_kernel.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/options.hpp"

namespace loopd {

// The devices that one backing file is attached to, whoever attached it: what
// reuse, overlap and finding are decided by. For one moment: what is pointed to is
// the registry's.
class FileDevices {
 public:
  FileDevices(const ObjectRegistry& registry, const loop::LoopKernel& kernel, const loop::FileIdentity& file);

  // Newest first.
  std::vector<std::string> paths() const;

  // Those beside which the request's range would let one write what another reads.
  std::vector<const Device*> conflicting(const loop::AttachRequest& request) const;

  // Throws Error overlap, naming the device and the range.
  void refuse_conflict(const loop::AttachRequest& request) const;

  // The user's own device that is just what the request asks for. Throws
  // InvalidArgs where it is, but for what only an attach could give. Null: none.
  const Device* reusable(const AttachOptions& options, const loop::AttachRequest& request, uid_t uid) const;

 private:
  const loop::LoopKernel& kernel_;
  std::vector<const Device*> devices_;
};

}  // namespace loopd
