// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <string>

#include "core/attach_request.hpp"
#include "core/device_snapshot.hpp"

namespace loop {

// The bytes of a backing file that a device maps. Without a size limit it may
// grow with the file: its end is open.
struct MappedRange {
  uint64_t begin = 0;
  uint64_t end = UINT64_MAX;  // exclusive

  bool operator==(const MappedRange&) const = default;
  std::string text() const;  // "bytes 0 to 1048576", "bytes 4096 to the end"
};

MappedRange range_of(uint64_t offset, uint64_t size_limit);

// The device maps this file, compared by identity, never by name. False where
// the device could not be identified.
bool maps_file(const DeviceSnapshot& device, const FileIdentity& file);

// Attaching this beside that would let one write what the other reads: the
// ranges overlap, and at least one of the two is writable.
bool conflicts(const DeviceSnapshot& device, MappedRange range, bool read_only);

}  // namespace loop
