// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "core/attach_request.hpp"
#include "core/device_snapshot.hpp"
#include "core/loop_kernel.hpp"
#include "core/removal.hpp"
#include "core/resizing.hpp"

namespace loop {

// An attached loop device, for programs that use the library alone: the calls
// of a service in the shape of an object. It stands for one attachment: if the
// number is detached and attached again, every call fails with Errc::stale.
//
// Holds no descriptor, autoclear apart, and destroying it changes nothing:
// a loop device outlives the process that made it. Not thread-safe. Every call
// may block and throws Error.
class LoopDevice {
 public:
  // Attaches a file. With `request.autoclear` the device would be gone at once:
  // the object holds it open until it is destroyed or release() is called.
  static LoopDevice attach(const AttachRequest& request);

  // The device at a path below /dev; symbolic links are followed. Throws
  // not_a_loop_device, also for a partition of one, and not_attached.
  static LoopDevice open(const std::string& dev_path);

  LoopDevice(LoopDevice&&) noexcept = default;
  LoopDevice& operator=(LoopDevice&&) noexcept = default;

  unsigned number() const { return snapshot_.number; }
  std::string dev_path() const { return snapshot_.dev_path(); }
  dev_t dev() const { return snapshot_.dev; }
  uint64_t disk_sequence() const { return snapshot_.disk_sequence; }

  // Read from the kernel at each call.
  DeviceSnapshot snapshot() const;
  std::string backing_file() const { return snapshot().backing_file; }

  // Computes the size anew after the file has grown or shrunk.
  DeviceSizes refresh_size();

  // Detaches and deletes the node, or throws device_busy and nothing has changed.
  void remove(RemovalOptions options = {}, std::chrono::milliseconds patience = probing_patience);

  // Lets go of an autoclear device.
  void release() { holder_.reset(); }

 private:
  LoopDevice(std::shared_ptr<LoopKernel> kernel, DeviceSnapshot snapshot);

  std::shared_ptr<LoopKernel> kernel_;
  DeviceSnapshot snapshot_;
  std::unique_ptr<LoopNode> holder_;
};

}  // namespace loop
