// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/attach_request.hpp"
#include "core/removal.hpp"
#include "core/resizing.hpp"

namespace loopd {

using Options = std::map<std::string, sdbus::Variant>;

// Keys that Attach takes.
std::vector<std::string> attach_option_names();

struct AttachOptions {
  loop::AttachRequest request;   // without its file
  bool direct_io_given = false;  // whatever its value
  bool partition_scan_given = false;
  bool reuse = false;
  bool allow_overlap = false;
  bool lease = false;
};

// Throws InvalidArgs naming the key that is unknown or has another type. Values
// are checked by core, with the file at hand.
AttachOptions decode_attach_options(const Options& options);

loop::ResizeOptions decode_resize_options(const Options& options);

struct RemoveOptions {
  loop::RemovalOptions removal;
  std::optional<uint64_t> disk_sequence;
  std::optional<std::chrono::microseconds> timeout;
};

RemoveOptions decode_remove_options(const Options& options);

}  // namespace loopd
