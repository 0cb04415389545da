// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

namespace loop {

// "loop3", as the kernel calls it.
inline std::string kernel_name(unsigned number) { return "loop" + std::to_string(number); }

// The number of the loop device that a path below /dev leads to, following
// symbolic links; a partition's node gives the device that owns it. `sys` is
// where sysfs is mounted. Throws Error not_a_loop_device for anything else: no
// path below /dev, absent, another kind of device.
unsigned loop_number_of(const std::string& dev_path, const std::string& sys = "/sys");

// The same for the whole disk alone: a partition is no loop device.
unsigned loop_number_of_disk(const std::string& dev_path, const std::string& sys = "/sys");

}  // namespace loop
