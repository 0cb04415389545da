// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "core/attach_request.hpp"

struct loop_info64;

namespace loop {

class LoopKernel;

// What the kernel said of one attached loop device, at one moment. Sizes are in
// bytes. A device that is not attached has no snapshot.
struct DeviceSnapshot {
  unsigned number = 0;
  dev_t dev = 0;
  uint64_t disk_sequence = 0;  // 0: kernel before 5.15
  std::string backing_file;    // the path's bytes, without " (deleted)"; empty where
                               // the kernel cannot tell it (longer than a page)
  bool backing_file_deleted = false;
  bool identified = false;  // the next three were read (GET_STATUS64)
  FileIdentity backing;
  uint64_t backing_size = 0;  // of the file, bytes; 0 where its path does not lead to it
  std::string reference;      // lo_file_name, empty where it holds a path
  uint64_t size = 0;
  uint64_t offset = 0;
  uint64_t size_limit = 0;
  unsigned block_size = 0;
  bool read_only = false;
  bool autoclear = false;
  bool kernel_partition_scan = false;
  bool direct_io = false;

  bool operator==(const DeviceSnapshot&) const = default;
  std::string dev_path() const;
};

// "7:3", as sysfs writes device numbers. 0 for anything else.
dev_t parse_device_number(const std::string& text);

// Whether this very attachment is still there. Sysfs alone.
bool is_attached(const LoopKernel& kernel, unsigned number, uint64_t disk_sequence);

// Reads sysfs alone, which never waits for the backing file's server. Nothing
// where no file is attached. `identified` stays false.
std::optional<DeviceSnapshot> read_snapshot(const LoopKernel& kernel, unsigned number);

// What GET_STATUS64 said, put into the snapshot. With a look at the file by its
// path, which may wait for its server: how large it is, and whether a path that
// ends in " (deleted)" is one.
void apply_status(const loop_info64& info, DeviceSnapshot& snapshot, bool look_at_file = true);

// Reads again what changes without an event: direct I/O, block size, the name
// of the backing file, autoclear. Sysfs alone. False where the device is not that
// attachment any more.
bool refresh_volatile(const LoopKernel& kernel, DeviceSnapshot& snapshot);

}  // namespace loop
