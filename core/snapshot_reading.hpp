// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/device_snapshot.hpp"

struct loop_info64;

namespace loop {

class LoopKernel;

// "7:3", as sysfs writes device numbers. 0 for anything else.
dev_t parse_device_number(const std::string& text);

// Whether this very attachment is still there. Sysfs alone.
bool is_attached(const LoopKernel& kernel, unsigned number, uint64_t disk_sequence);

// The disk sequence of what is attached to the number, 0 where the kernel has none. Nothing where no file is.
// Sysfs alone.
std::optional<uint64_t> attached_sequence(const LoopKernel& kernel, unsigned number);

// Reads sysfs alone, which never waits for the backing file's server. Nothing
// where no file is attached. `identified` stays false.
std::optional<DeviceSnapshot> read_snapshot(const LoopKernel& kernel, unsigned number);

// The first half of it, which is enough to know whom to ask for the rest: number, disk sequence and the
// backing file's path, which is that attachment's if it is the one that is asked afterwards.
std::optional<DeviceSnapshot> read_identity(const LoopKernel& kernel, unsigned number);

// The other half. False where the device is not that attachment any more.
bool read_settings(const LoopKernel& kernel, DeviceSnapshot& snapshot);

// Which file GET_STATUS64 says that a device is backed by.
FileIdentity backing_identity(const loop_info64& info);

// What GET_STATUS64 said, put into the snapshot.
void apply_status(const loop_info64& info, DeviceSnapshot& snapshot);

// After that, what the file tells that the path leads to: how large it is, and whether a path that ends in
// " (deleted)" is one. May wait for its server. `watch` gets the file, open as a path, before its size is
// read, so that no change is missed; -1 where the path leads to another file, or none.
void look_at_backing_file(DeviceSnapshot& snapshot, const std::function<void(int file)>& watch = nullptr);

// Reads the name of the backing file again. False where nothing is attached.
bool read_backing_file(const LoopKernel& kernel, DeviceSnapshot& snapshot);

// What changes without an event.
enum class Volatile {
  all,
  backing_file,  // its name, and whether it was deleted
  autoclear,
  direct_io,
  block_size,
};

// Reads it again. Sysfs alone. False where it is another attachment's; what is as it was may be, too.
bool refresh_volatile(const LoopKernel& kernel, DeviceSnapshot& snapshot, Volatile what = Volatile::all);

// What refresh_volatile() reads, from one snapshot of an attachment to another. False: they
// are the same.
bool copy_volatile(const DeviceSnapshot& from, DeviceSnapshot& to);

}  // namespace loop
