// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

#include "core/unique_fd.hpp"

namespace loopctl {

// Opens a file with the rights of this user: the service takes only what they allow.
// Throws Failure.
loop::UniqueFd open_image(const std::string& path, bool read_only);

// Throws Failure where the file is an image of another format than raw, which a loop
// device would show as it is stored.
void refuse_other_formats(const std::string& path, int file);

}  // namespace loopctl
