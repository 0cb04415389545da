// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "attach_request.hpp"

namespace loop {

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
  std::string dev_path() const { return "/dev/loop" + std::to_string(number); }
};

}  // namespace loop
