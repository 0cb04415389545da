// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attach_request.hpp"
#include "device_snapshot.hpp"
#include "export.hpp"
#include "partition.hpp"
#include "removal_options.hpp"
#include "resize_options.hpp"
#include "unique_fd.hpp"

namespace loop {

// An attached loop device, for programs that use the library alone: the calls
// of a service in the shape of an object. It stands for one attachment: if the
// number is detached and attached again, every call fails with Errc::stale, and
// with Errc::not_attached in between. Before Linux 5.15 nothing tells the two
// attachments apart.
//
// Holds no descriptor, autoclear apart, and destroying it changes nothing: a loop
// device outlives the process that made it. One that was moved from can be
// destroyed and assigned to, nothing else. An object is for one thread at a time;
// different ones, and the static functions, are for any.
//
// Attaching and changing need CAP_SYS_ADMIN. Every call that asks the kernel may
// block, where the server of the backing file does not answer also for ever, and
// throws Error; a call that has thrown has changed nothing.
class LOOPDEV_PUBLIC LoopDevice {
 public:
  // Attaches a file; the descriptor in the request stays the caller's, and is not
  // needed afterwards. When it returns, partitions asked for are there, with their
  // nodes. With `request.autoclear` the device would be gone at once: the object
  // holds it open until it is destroyed or release() is called.
  static LoopDevice attach(const AttachRequest& request);

  // The device at a path below /dev; symbolic links are followed. Throws
  // not_a_loop_device, also for a partition of one, and not_attached.
  static LoopDevice open(const std::string& dev_path);

  // Every attached device, whoever attached it, by number.
  static std::vector<LoopDevice> all();

  // Those that are backed by this file, newest first; compared by file system and
  // inode, never by name. `file` is borrowed; O_PATH does.
  static std::vector<LoopDevice> find(int file);

  LoopDevice(LoopDevice&&) noexcept;
  LoopDevice& operator=(LoopDevice&&) noexcept;
  ~LoopDevice();

  // What never changes; asks nobody.
  unsigned number() const;         // 3
  std::string dev_path() const;    // "/dev/loop3"
  dev_t dev() const;               // as st_rdev of the node
  uint64_t disk_sequence() const;  // of the attachment; 0 before Linux 5.15

  // Read from the kernel at each call.
  DeviceSnapshot snapshot() const;
  std::string backing_file() const { return snapshot().backing_file; }
  std::vector<KnownPartition> partitions() const;  // by number

  // Computes the size anew after the file has grown or shrunk. Throws
  // would_truncate where a partition or a mounted file system would be cut.
  DeviceSizes refresh_size(ResizeOptions options = {});

  // Makes the partitions those of the table that is on the device now, by the
  // differences alone. One that is in use stays.
  void rescan_partitions();

  // Throws not_supported where the file's file system, the offset or the block
  // size forbid it.
  void set_direct_io(bool enable);

  // A descriptor of the device itself, which the caller owns. Throws
  // not_writable.
  UniqueFd open_node(bool writable) const;

  // Detaches and deletes the node, or throws device_busy, which names who holds
  // it. Waits at most `patience` for users to go.
  void remove(RemovalOptions options = {}, std::chrono::milliseconds patience = probing_patience);

  // Lets go of an autoclear device, which then goes with its last user.
  void release();

 private:
  struct State;
  explicit LoopDevice(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace loop
