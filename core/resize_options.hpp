// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <optional>

namespace loop {

struct ResizeOptions {
  bool force = false;                  // shrink whatever it cuts
  std::optional<uint64_t> size_limit;  // bytes; a new limit, set first; 0: none
};

// Of a device, in bytes.
struct DeviceSizes {
  uint64_t before = 0;
  uint64_t after = 0;
};

}  // namespace loop
