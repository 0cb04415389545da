// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <string>

#include "attach_request.hpp"
#include "export.hpp"

namespace loop {

// The logical block size that the GPT of an image is made for, in bytes; 0 where
// the image has none, so that the kernel's default does. The range is the
// request's. Throws Error invalid_argument where tables of several sizes are
// found. May block on the file's server.
LOOPDEV_PUBLIC unsigned find_block_size(const AttachRequest& request, const BackingFile& file);

// What attaching would give, found without attaching.
struct ImageFacts {
  uint64_t size = 0;          // of the device, bytes
  unsigned block_size = 0;    // bytes
  uint64_t wasted_bytes = 0;  // at the end of the range, less than a sector: not mapped
  std::string table_type;     // "gpt", "dos"…; empty: none
  unsigned partitions = 0;    // that the kernel could be told about
  bool direct_io = false;     // the file's file system could do it for this range
  std::string format;         // "raw", or "qcow2", "vmdk", "vhd", "vhdx", "vdi", "qed": no raw image
};

// Validates as attaching does, and throws as that does.
LOOPDEV_PUBLIC ImageFacts probe_image(const AttachRequest& request);

// The format alone, by its magic bytes.
LOOPDEV_PUBLIC std::string image_format(int fd, uint64_t size);

}  // namespace loop
