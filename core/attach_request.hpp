// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "attachment_terms.hpp"
#include "export.hpp"
#include "unique_fd.hpp"

namespace loop {

// Who keeps the partitions of the device.
enum class PartitionScan {
  none,
  service,  // the table is read with libblkid and partitions are added with BLKPG
  kernel,   // LO_FLAGS_PARTSCAN: only for kernels with a parser, and races with udevd
};

// What to attach, and how. Sizes are in bytes.
struct AttachRequest {
  UniqueFd file;                  // regular file or block device, open
  uint64_t offset = 0;            // first byte mapped; inside the file
  uint64_t size_limit = 0;        // 0: to the end of the file
  unsigned block_size = 0;        // power of two, 512…page size; 0: the kernel's choice
  bool probe_block_size = false;  // the size that the image's GPT is made for
  bool read_only = false;
  bool autoclear = false;  // the kernel's flag, set at once
  bool direct_io = false;  // a wish: the kernel may refuse it
  PartitionScan partition_scan = PartitionScan::none;
  std::string reference;           // lo_file_name: at most 62 bytes
  std::optional<unsigned> number;  // this loopN and no other
  AttachmentTerms terms;           // keeps_partitions follows partition_scan
};

inline constexpr unsigned max_loop_number = 1048575;  // larger ones wrap in the kernel
inline constexpr size_t max_reference_length = 62;    // lo_file_name less zero, less systemd's byte

// The same request, with another descriptor of the file. Throws Error
// invalid_argument.
LOOPDEV_PUBLIC AttachRequest copy_of(const AttachRequest& request);

// Which file it is, whatever its names.
struct FileIdentity {
  bool block_device = false;
  dev_t dev = 0;    // of the file system, or of the block device itself
  ino_t inode = 0;  // 0 for a block device

  auto operator<=>(const FileIdentity&) const = default;
};

// Asks the kernel alone, never the file's server. Any descriptor, O_PATH too.
// Throws Error invalid_argument.
LOOPDEV_PUBLIC FileIdentity identify_file(int fd);

// A file that can be attached.
struct BackingFile {
  FileIdentity identity;
  uint64_t size = 0;  // bytes
};

// Checks everything that can be checked without touching a loop device.
// Throws Error invalid_argument or not_writable, naming the culprit.
// May block where the file system does not answer.
LOOPDEV_PUBLIC BackingFile validate(const AttachRequest& request);

// The same for a file that was looked at.
LOOPDEV_PUBLIC void validate(const AttachRequest& request, const BackingFile& file);

// Checks a reference alone: length, UTF-8, no '/', no control characters, not
// ending like a partition's link. Throws Error invalid_argument.
LOOPDEV_PUBLIC void validate_reference(const std::string& reference);

// "NAME-part3": udev's link of the third partition of NAME.
bool ends_like_partition_link(std::string_view reference);

// The identity of an open file. Throws Error invalid_argument for what can't be
// attached (directory, pipe, O_PATH…).
LOOPDEV_PUBLIC BackingFile inspect_backing_file(int fd);

}  // namespace loop
