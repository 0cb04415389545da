// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The seam to the kernel: every loop ioctl, every look into /sys/block and
// every open of a loop node goes through it, one kernel operation a method.
// No policy, no retries. A method returns 0 or a value on success and -errno
// on failure, as the kernel does, because callers decide by errno.
//
// Internal to the library, so that <linux/loop.h> stays out of public headers.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/attach_request.hpp"
#include "core/image_probe.hpp"
#include "core/partition.hpp"
#include "core/unique_fd.hpp"

struct loop_config;
struct loop_info64;

namespace loop {

// The unit of sizes in sysfs, in bytes, whatever the device's block size.
inline constexpr uint64_t sysfs_sector = 512;

enum class NodeAccess {
  // To configure it: for reading and writing, by a node that nobody watches where there is one.
  configure,
  read_write,  // closing it makes udev look at the device again
  read_only,
  read_exclusive,  // O_RDONLY|O_EXCL: refused with EBUSY under a mount or swap
};

// An open descriptor of one loop device. Closed, and its BSD lock dropped, by
// the destructor.
class LoopNode {
 public:
  virtual ~LoopNode() = default;

  // For libblkid and poll; -1 where there is none.
  virtual int fd() const = 0;
  virtual dev_t device_number() const = 0;

  // flock(LOCK_EX|LOCK_NB) of the node in /dev, which udevd honours: it does not look at the
  // device meanwhile, and where it wanted to, comes back after 200 ms.
  virtual int try_lock() = 0;
  // For good. A watched node that is open for writing is closed by that, as udev may otherwise
  // look between the two and miss the close; what it is needed for afterwards needs no writing.
  virtual void unlock() = 0;

  virtual int configure(const loop_config& config) = 0;
  virtual int status(loop_info64& info) const = 0;
  virtual int set_status(const loop_info64& info) = 0;
  virtual int clear() = 0;       // LOOP_CLR_FD
  virtual int write_back() = 0;  // what was written to the device goes to the file, as with the last close
  virtual int drop_cache() = 0;  // BLKFLSBUF: what is read next is what is in the file now
  virtual int set_capacity() = 0;
  virtual int set_direct_io(bool enable) = 0;

  virtual int size(uint64_t& bytes) const = 0;
  virtual int block_size(unsigned& bytes) const = 0;
  virtual int disk_sequence(uint64_t& sequence) const = 0;  // -ENOTTY before 5.15

  virtual int add_partition(const PartitionExtent& extent) = 0;
  virtual int delete_partition(unsigned number) = 0;
};

// An open /dev/loop-control. Its lock is always taken before a device's.
class LoopControl {
 public:
  virtual ~LoopControl() = default;
  virtual int try_lock() = 0;
  virtual void unlock() = 0;
  virtual int get_free() = 0;
  virtual int add(int number) = 0;  // -1: any number
  virtual int remove(unsigned number) = 0;
};

// Wakes up when a use of the device may have ended: somebody closed it or one of
// its partitions, unmounted something, switched swap off. umount(2) closes
// inside the kernel, which inotify does not see, hence the mount table. All of
// these tell before the kernel lets go of the device, and nothing tells of a
// mount in another namespace: so it also wakes up a few milliseconds after each,
// and then less and less often, at least every ten seconds.
class UseWatch {
 public:
  virtual ~UseWatch() = default;
  virtual int fd() const = 0;  // readable, until drained
  virtual void drain() = 0;
};

class LoopKernel {
 public:
  virtual ~LoopKernel() = default;

  virtual int open_control(std::unique_ptr<LoopControl>& control) = 0;
  virtual int open_node(unsigned number, NodeAccess access, std::unique_ptr<LoopNode>& node) = 0;
  virtual int watch_use(unsigned number, std::unique_ptr<UseWatch>& watch) = 0;

  // Numbers of the loop devices that exist, bound or not, in no order.
  virtual std::vector<unsigned> numbers() const = 0;

  // The contents of /sys/block/loopN/NAME without the final newline; nothing
  // where the attribute or the device is absent or cannot be read. As what lists,
  // too, it throws Error where this process has no descriptor or memory for it.
  virtual std::optional<std::string> attribute(unsigned number, const char* name) const = 0;

  // /sys/block/loopN/NAME exists. "loop" does while a file is attached.
  virtual bool has_attribute(unsigned number, const char* name) const = 0;

  // Partitions that the kernel knows now, by number.
  virtual std::vector<PartitionExtent> partitions(unsigned number) const = 0;

  // The devices that have any, by one list of all.
  virtual std::set<unsigned> partitioned() const = 0;

  // 5.8 as {5, 8}.
  virtual std::pair<int, int> version() const = 0;

  // Looking at the backing file itself, which may wait for its server. Throw
  // Error.
  virtual BackingFile inspect_file(int fd);
  virtual unsigned find_image_block_size(const AttachRequest& request, const BackingFile& file);
  virtual ImageFacts probe_image_file(const AttachRequest& request);
  virtual UniqueFd open_path(int root, const std::string& path, bool read_only);

  // The file that a path leads to from here, with its size. Nothing where it leads
  // nowhere, or to what is no regular file and no block device.
  virtual std::optional<BackingFile> find_file(const std::string& path);

  // False where a look at a backing file by its path, from this process, might
  // wait for a server that does not answer.
  virtual bool may_look_at_files() const { return true; }

  // Devices below this number exist from the start and are not deleted when
  // an attach that used one fails.
  virtual unsigned static_devices() const = 0;
};

// The kernel that runs this process. `dev` and `sys` are where devtmpfs and
// sysfs are mounted.
std::unique_ptr<LoopKernel> make_linux_loop_kernel(std::string dev = "/dev", std::string sys = "/sys");

// The same, configuring devices by nodes in that directory (core/node_directory.hpp) where the
// kernel and the directory allow it; `nodes` may be none.
std::unique_ptr<LoopKernel> make_linux_loop_kernel(UniqueFd nodes);

}  // namespace loop
