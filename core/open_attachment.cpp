// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/open_attachment.hpp"

#include <cerrno>
#include <string>

#include "core/device_name.hpp"
#include "core/error.hpp"

namespace loop {

std::unique_ptr<LoopNode> open_attachment(LoopKernel& kernel, unsigned number, uint64_t disk_sequence,
                                          NodeAccess access, loop_info64& info) {
  const std::string name = kernel_name(number);
  std::unique_ptr<LoopNode> node;
  const int r = kernel.open_node(number, access, node);
  if (r == -EBUSY && access == NodeAccess::read_exclusive) return nullptr;
  if (r == -ENOENT || r == -ENXIO || r == -ENODEV) {
    throw Error(Errc::not_attached, name + ": is not attached");
  }
  if (r < 0) throw Error(Errc::failed, -r, "cannot open /dev/" + name);

  // The descriptor holds the device from here on: what the number names now, it
  // names until the close.
  uint64_t sequence = 0;
  if (disk_sequence != 0) {
    const int known = node->disk_sequence(sequence);
    if (known < 0 && known != -ENOTTY) throw Error(Errc::failed, -known, "BLKGETDISKSEQ of " + name);
    if (known >= 0 && sequence != disk_sequence) {
      throw Error(Errc::stale, name + ": is another attachment by now");
    }
  }
  const int status = node->status(info);
  if (status == -ENXIO) throw Error(Errc::not_attached, name + ": is not attached");
  if (status < 0) throw Error(Errc::failed, -status, "LOOP_GET_STATUS64 of " + name);
  return node;
}

}  // namespace loop
