// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <vector>

namespace loop {

class LoopKernel;

struct Holder {
  std::string text;   // as people would say it: "mounted at /mnt (loop3p1)", "process 812 (dd)"
  bool udev = false;  // looks at every device that was closed, and goes again
};

// Who uses the device or one of its partitions, as far as this
// process can see: a mount in another namespace, or a process of another user
// without CAP_SYS_PTRACE, is not in the list. Looks through /proc; may take
// milliseconds. The calling process itself is left out. A loop device on top is told by
// the name of its file, which may be anybody's choice: for people, and for decisions of which
// a wrong yes does no more harm than that a free number is not used.
std::vector<Holder> find_holders(const LoopKernel& kernel, unsigned number);

// A mount, swap or another block device (device-mapper, MD) uses the device or one of its
// partitions. A process that just has it open does not, be it exclusively (mkfs). Of mounts,
// those in this process's namespace. A loop device on top is not seen: the kernel tells it by
// the name of its file, which anybody can have another file called. Never opens the device: an
// exclusive open would tell more, and keep a mount of this moment out.
bool is_used(const LoopKernel& kernel, unsigned number);

// find_holders() in one line, also when none can be seen.
std::string describe_holders(const LoopKernel& kernel, unsigned number);

}  // namespace loop
