// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <chrono>

namespace loop {

class LoopKernel;
class UseWatch;

using Deadline = std::chrono::steady_clock::time_point;

inline Deadline deadline_in(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

// Waits for the watch to wake up, at most until the deadline. False: the
// deadline has passed.
bool wait_for_use_change(UseWatch& watch, Deadline deadline);

// Deletes the node of an unbound device (LOOP_CTL_REMOVE). An opener makes the
// kernel refuse; udev's probing is one, for moments: wait for its close and try
// again until the deadline. A device that is gone or that somebody has attached
// again in the meantime is as good. Throws Error: device_busy at the deadline,
// not_supported, failed. Takes some 50 ms in the kernel.
void delete_node(LoopKernel& kernel, unsigned number, Deadline deadline);

}  // namespace loop
