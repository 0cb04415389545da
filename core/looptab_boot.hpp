// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What looptab and fstab mean together: which mounts need a line's device, and which
// mounts the line's image needs. Pure: the files' texts decide, not what is mounted.
#pragma once

#include <string>
#include <vector>

#include "core/fstab.hpp"
#include "core/looptab.hpp"

namespace loop {

// The lines of fstab that mount the device or a partition of it, or swap on it,
// named by its link.
std::vector<const FstabLine*> uses_of(const LoopTabEntry& entry, const std::vector<FstabLine>& fstab);

// The lines of fstab whose mounts hold a path, the outermost first. A mount of "/" is
// not one: it is there.
std::vector<const FstabLine*> mounts_above(const std::string& path, const std::vector<FstabLine>& fstab);

// Attached when the network is there: it says so, a mount of it does, or its image
// is on one that does.
bool is_on_network(const LoopTabEntry& entry, const std::vector<FstabLine>& fstab);

enum class BootProblem {
  image_below_own_mount,  // its mount waits for the device, the device for the mount
  cycle,                  // the same by way of other lines
  network_use_missing,    // the device waits for the network, a mount of it does not
  network_line_missing,   // the other way round, which is made good
  overlap,                // two lines map the same bytes, and at least one may write
};

struct BootFinding {
  unsigned line = 0;  // of looptab
  BootProblem problem = BootProblem::cycle;
  bool hangs = false;  // or fails, or spoils data; else it is told for clarity's sake
  std::string text;    // for people
};

// What would hang or spoil a boot, by line.
std::vector<BootFinding> find_boot_problems(const std::vector<LoopTabEntry>& entries,
                                            const std::vector<FstabLine>& fstab);

}  // namespace loop
