// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstddef>
#include <string>

#include "dbus/object_registry.hpp"

namespace loopd {

// The bus cuts off whoever sends it a message of more than 32 MiB. What grows with the
// machine is refused well before, as its size is known about only.
inline constexpr size_t most_reply_bytes = size_t{24} << 20;

// What GetManagedObjects says of a device and its partitions, in bytes; rather more than less.
size_t managed_size(const Device& device);

// Why a reply of that size is not sent.
std::string too_large(size_t bytes);

}  // namespace loopd
