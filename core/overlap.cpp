// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/overlap.hpp"

namespace loop {

std::string MappedRange::text() const {
  return "bytes " + std::to_string(begin) + " to " + (end == UINT64_MAX ? "the end" : std::to_string(end));
}

MappedRange range_of(uint64_t offset, uint64_t size_limit) {
  const bool open = size_limit == 0 || size_limit > UINT64_MAX - offset;
  return {offset, open ? UINT64_MAX : offset + size_limit};
}

bool maps_file(const DeviceSnapshot& device, const FileIdentity& file) {
  return device.identified && device.backing == file;
}

bool conflicts(const DeviceSnapshot& device, MappedRange range, bool read_only) {
  const MappedRange taken = range_of(device.offset, device.size_limit);
  const bool overlap = range.begin < taken.end && taken.begin < range.end;
  return overlap && !(read_only && device.read_only);
}

}  // namespace loop
