// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the service and its file helper say to each other: a request, a reply, one
// packet each, over a socket pair that nobody else has. Both come from one build,
// so that they agree on the layout. Internal to the library.
#pragma once

#include <linux/loop.h>
#include <sys/types.h>

#include <array>
#include <cstdint>

#include "core/attach_request.hpp"
#include "core/error.hpp"
#include "core/image_probe.hpp"
#include "core/loop_kernel.hpp"
#include "core/partition.hpp"
#include "core/unique_fd.hpp"

namespace loop::helper {

enum class Operation : uint32_t {
  open_node,
  close_node,
  duplicate,  // a descriptor of the node comes back
  try_lock,
  unlock,
  configure,  // with the file's descriptor
  status,
  set_status,
  clear,
  write_back,
  drop_cache,
  set_capacity,
  set_direct_io,
  size,
  block_size,
  disk_sequence,
  add_partition,
  delete_partition,
  inspect_file,  // with the file's descriptor, as the next two
  find_block_size,
  probe_image,
  open_path,  // with the root's descriptor; one of the file comes back
  find_file,  // `value` is 1 where there is one
};

struct Request {
  Operation operation{};
  uint32_t node = 0;  // an open node, as open_node named it
  uint32_t number = 0;
  NodeAccess access{};
  uint64_t flag = 0;
  loop_config config{};
  loop_info64 info{};
  PartitionExtent extent;
  // Of an AttachRequest, what looking at the file needs.
  uint64_t offset = 0;
  uint64_t size_limit = 0;
  uint32_t block_size = 0;
  bool read_only = false;
  bool probe_block_size = false;
  BackingFile file;
  std::array<char, 4096> path{};
};

struct Reply {
  int64_t result = 0;  // as the kernel's: 0 or more, or -errno
  uint32_t node = 0;
  dev_t device_number = 0;
  uint64_t value = 0;
  loop_info64 info{};
  BackingFile file;
  // ImageFacts
  uint64_t size = 0;
  uint64_t wasted_bytes = 0;
  uint32_t block_size = 0;
  uint32_t partitions = 0;
  bool direct_io = false;
  std::array<char, 16> table_type{};
  std::array<char, 16> format{};
  // An exception of core's.
  bool threw = false;
  Errc code{};
  int32_t error_number = 0;
  std::array<char, 1024> message{};
};

// Send and receive one packet, with at most one descriptor. Both return 0 or
// -errno; receiving waits until the deadline (-ETIME) and is -EPIPE at the end.
template <typename Packet>
int send_packet(int socket, const Packet& packet, int fd = -1);
template <typename Packet>
int receive_packet(int socket, Packet& packet, UniqueFd& fd, int timeout_msec = -1);

// Text that fits, zero-terminated.
template <size_t size>
void put_text(std::array<char, size>& field, const std::string& text);

}  // namespace loop::helper
