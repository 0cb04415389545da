// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A kernel with loop devices, simulated behind the seam that core/ sees it
// through. It follows drivers/block/loop.c: numbers, openers, AUTOCLEAR and the
// rundown of 6.11, partitions that outlive a detach, BSD locks, disk sequences.
// Tests script it: a call that fails, a rival who acts at a chosen moment.
#pragma once

#include <linux/loop.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/loop_kernel.hpp"
#include "core/unique_fd.hpp"

namespace loop::testing {

// The seam's calls that can fail.
enum class Call {
  open_control,
  lock_control,
  get_free,
  add,
  remove,
  open_node,
  watch_use,
  lock,
  configure,
  status,
  set_status,
  clear,
  set_capacity,
  write_back,
  drop_cache,
  set_direct_io,
  size,
  block_size,
  disk_sequence,
  add_partition,
  delete_partition,
  attribute,  // fails by having no value
};

const char* name_of(Call call);

class FakeLoopKernel : public LoopKernel {
 public:
  struct Options {
    std::pair<int, int> version{6, 18};
    unsigned static_devices = 8;  // loop0… exist from the start
    bool driver = true;           // false: no /dev/loop-control
  };

  FakeLoopKernel() : FakeLoopKernel(Options{}) {}
  explicit FakeLoopKernel(Options options);
  ~FakeLoopKernel() override;

  int open_control(std::unique_ptr<LoopControl>& control) override;
  int open_node(unsigned number, NodeAccess access, std::unique_ptr<LoopNode>& node) override;
  int watch_use(unsigned number, std::unique_ptr<UseWatch>& watch) override;
  std::vector<unsigned> numbers() const override;
  std::optional<std::string> attribute(unsigned number, const char* name) const override;
  bool has_attribute(unsigned number, const char* name) const override;
  std::vector<PartitionExtent> partitions(unsigned number) const override;
  std::set<unsigned> partitioned() const override;
  std::pair<int, int> version() const override { return options_.version; }
  unsigned static_devices() const override { return options_.static_devices; }

  // The script. Calls are counted from 1 over all kinds, since the last
  // restart_counting().
  void restart_counting();
  int calls() const;
  void fail_call(int index, int error_number);    // that one call
  void fail_always(Call call, int error_number);  // each of that kind; 0: no more
  std::string call_text(int index) const;         // "configure loop8"

  // Runs before, or after, each call of that kind, with the number of the device
  // (for `add` and `remove` as well; 0 where there is none). It may act as
  // somebody else by the calls below.
  using Hook = std::function<void(unsigned number)>;
  void before(Call call, Hook hook);
  void after(Call call, Hook hook);
  void before_unlocking(Hook hook) { before_unlocking_ = std::move(hook); }  // of a device by itself

  // What other processes do. Attaching makes the device if it is absent.
  void foreign_attach(unsigned number, int fd, uint32_t flags = 0);
  void foreign_attach(unsigned number, uint64_t size = 1 << 20);
  void foreign_detach(unsigned number);  // with the last close, if it is open
  void foreign_partition(unsigned number, const PartitionExtent& extent);
  void foreign_open(unsigned number);
  void foreign_close(unsigned number);
  void foreign_mount(unsigned number);  // an exclusive opener
  void foreign_unmount(unsigned number);
  void foreign_partition_open(unsigned number, unsigned partition);
  void foreign_partition_close(unsigned number, unsigned partition);
  void foreign_lock(unsigned number, bool locked = true);  // the unlocking is a close, too
  void foreign_lock_control(bool locked = true) { control_locked_by_other_ = locked; }
  void set_requests_under_way(unsigned number, bool under_way);
  void lose_writes_to(unsigned number) { forced_read_only_.insert(number); }  // CONFIGURE forces read-only

  // What is to be seen.
  bool exists(unsigned number) const;
  bool bound(unsigned number) const;
  std::vector<unsigned> bound_numbers() const;
  loop_info64 info(unsigned number) const;  // of a bound device
  uint64_t sequence(unsigned number) const;
  int open_nodes() const { return open_nodes_; }  // by the code under test
  int open_controls() const { return open_controls_; }
  int open_watches() const { return open_watches_; }

  // Everything but the disk sequences, as text to be compared: devices, their
  // status, openers, locks, partitions.
  std::string describe() const;

 private:
  struct Device;
  class Node;
  class Control;
  class Watch;

  // The scripted result of the call that comes now: 0, or -errno.
  int enter(Call call, unsigned number) const;
  void leave(Call call, unsigned number) const;
  bool old_clear() const { return options_.version < std::pair(6, 11); }
  Device& require(unsigned number);
  Device* find(unsigned number) const;
  Device& make(unsigned number);
  int configure_device(Device& device, const loop_config& config, bool writable_node, bool own_exclusive);
  void unbind(Device& device);
  void closed(Device& device);
  void notify(const Device& device);
  static void compute_size(Device& device);

  Options options_;
  mutable std::recursive_mutex mutex_;
  std::map<unsigned, std::unique_ptr<Device>> devices_;
  uint64_t last_sequence_ = 100;
  bool control_locked_by_other_ = false;
  const void* control_lock_owner_ = nullptr;
  std::set<unsigned> forced_read_only_;

  mutable std::vector<std::string> log_;
  Hook before_unlocking_;
  std::map<int, int> failures_;
  std::map<Call, int> permanent_failures_;
  std::map<Call, Hook> before_;
  std::map<Call, Hook> after_;
  std::multimap<unsigned, int> watches_;  // number → eventfd
  int open_nodes_ = 0;
  int open_controls_ = 0;
  int open_watches_ = 0;
};

}  // namespace loop::testing
