// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <memory>

#include "core/loop_kernel.hpp"

namespace loop {

// Opens a device for reading its state or changing it (CAP_SYS_ADMIN suffices
// for the setters) and makes sure that it is the attachment that was meant.
// `disk_sequence` 0: whatever is attached. `busy` means that an exclusive open
// was refused; the result is null then. Throws Error not_attached, stale, failed.
std::unique_ptr<LoopNode> open_attachment(LoopKernel& kernel, unsigned number, uint64_t disk_sequence,
                                          NodeAccess access, loop_info64& info);

}  // namespace loop
