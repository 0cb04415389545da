// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/device_settings.hpp"

#include <fcntl.h>
#include <linux/loop.h>

#include <cerrno>
#include <memory>
#include <string>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/open_attachment.hpp"

namespace loop {

void set_autoclear(LoopKernel& kernel, unsigned number, uint64_t disk_sequence, bool enable) {
  loop_info64 info{};
  const auto node = open_attachment(kernel, number, disk_sequence, NodeAccess::read_only, info);
  const auto flags =
      enable ? info.lo_flags | LO_FLAGS_AUTOCLEAR : info.lo_flags & ~static_cast<__u32>(LO_FLAGS_AUTOCLEAR);
  if (flags == info.lo_flags) return;  // setting it freezes the queue for milliseconds
  info.lo_flags = flags;
  const int r = node->set_status(info);
  if (r == -ENXIO) throw Error(Errc::not_attached, kernel_name(number) + ": was detached at this moment");
  if (r < 0) throw Error(Errc::failed, -r, "LOOP_SET_STATUS64 of " + kernel_name(number));
}

void set_direct_io(LoopKernel& kernel, unsigned number, uint64_t disk_sequence, bool enable) {
  loop_info64 info{};
  const auto node = open_attachment(kernel, number, disk_sequence, NodeAccess::read_only, info);
  const int r = node->set_direct_io(enable);
  if (r == -EINVAL && enable) {
    throw Error(Errc::not_supported,
                kernel_name(number) +
                    ": direct I/O is not possible with this file's file system, offset or "
                    "block size");
  }
  if (r < 0) throw Error(Errc::failed, -r, "LOOP_SET_DIRECT_IO of " + kernel_name(number));
}

UniqueFd open_device(LoopKernel& kernel, unsigned number, uint64_t disk_sequence, bool writable) {
  loop_info64 info{};
  const auto node = open_attachment(kernel, number, disk_sequence,
                                    writable ? NodeAccess::read_write : NodeAccess::read_only, info);
  if (writable && (info.lo_flags & LO_FLAGS_READ_ONLY) != 0) {
    throw Error(Errc::not_writable, "mode: " + kernel_name(number) + " is read-only");
  }
  UniqueFd copy(::fcntl(node->fd(), F_DUPFD_CLOEXEC, 0));
  if (!copy) throw Error(Errc::failed, errno, "cannot pass a descriptor of " + kernel_name(number));
  // Opened without waiting; what its user does with it should wait as usual.
  ::fcntl(copy.get(), F_SETFL, ::fcntl(copy.get(), F_GETFL) & ~O_NONBLOCK);
  return copy;
}

}  // namespace loop
