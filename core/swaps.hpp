// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/attach_request.hpp"

namespace loop {

// Paths of the active swap areas (/proc/swaps), octal escapes undone.
std::shared_ptr<const std::vector<std::string>> active_swaps();

// Whether this file or block device is being swapped to.
bool is_active_swap(const FileIdentity& file);

}  // namespace loop
