// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/backing_file_watch.hpp"
#include "core/device_reader.hpp"
#include "core/file_helpers.hpp"
#include "core/loop_manager.hpp"
#include "core/node_watch.hpp"
#include "core/udev_monitor.hpp"
#include "dbus/backoff.hpp"
#include "dbus/device_enumeration.hpp"
#include "dbus/keyed_locks.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/partition_quota.hpp"
#include "dbus/scheduler.hpp"
#include "dbus/task.hpp"
#include "dbus/task_group.hpp"

namespace loopd {

// Keeps the registry true to the kernel. Every event, the enumeration at start
// and every operation end in look(): read the device as it is now, publish the
// difference. An event's own content decides nothing, so that a lost, late or
// repeated one does no harm. Event loop's thread only.
class DeviceFollower {
 public:
  // udev's links to a device, where a udev runs. Callable from any thread.
  using Symlinks = std::function<std::vector<std::string>(unsigned number)>;

  DeviceFollower(Scheduler& scheduler, TaskGroup& tasks, loop::LoopManager& loops, loop::FileHelpers& helpers,
                 ObjectRegistry& registry);

  // With udev: nodes and links are ready when its event comes, and can be waited
  // for.
  void use_udev(Symlinks symlinks);

  void handle(const loop::DeviceEvent& event);

  // To be called when the watch is readable. Looks at the devices soon; a file
  // that is written all the time must not keep the service busy.
  void backing_files_changed();
  int backing_files_fd() const { return backing_files_.fd(); }

  // With udev, events come here when it is done; the kernel's own come before the
  // call that made them returns. `drain` hands those to note(): what a decision is
  // made on must not be older than the decision.
  void use_early_events(std::function<void()> drain) { drain_early_events_ = std::move(drain); }
  void note(unsigned number) { noted_[number] = ++notes_; }

  // Looks at every device that changed and was not looked at since.
  Task<void> catch_up();

  // Makes the records and the registry equal to the kernel; what a service before this one
  // was killed in the midst of is undone.
  Task<void> start();

  // After that: adds udev's links, where a udev runs.
  Task<void> add_symlinks();

  // Makes the registry equal to the kernel, as after lost events.
  Task<void> enumerate();

  // Reads one device anew and publishes what it is.
  Task<void> look(unsigned number);

  // Publishes a device that this service has just attached; what it is was read
  // when it was attached.
  void publish(const loop::Attachment& attachment);

  // Of what an ordinary user's devices may have.
  PartitionQuota& partition_quota() { return quota_; }

  // Waits until udev has finished with these partitions of an attachment whose
  // number is claimed. False: not in time.
  Task<bool> wait_for_udev(unsigned number, uint64_t disk_sequence, std::vector<loop::TableEntry> partitions);

  // To be called when a claim on a number was released: looks at what happened
  // to it meanwhile.
  void settle(unsigned number);
  // The same for every number: an attach that loses some to others had claims on those, too.
  void settle();

  // The same, but looks in any case.
  void look_again(unsigned number) {
    meanwhile_.try_emplace(number);
    settle(number);
  }

 private:
  friend class DeviceEnumeration;

  // What udev said of a number while it was claimed.
  struct Meanwhile {
    uint64_t disk_sequence = 0;
    std::set<unsigned> ready;  // partitions
    std::function<void()> changed;
  };
  struct Links {
    uint64_t disk_sequence = 0;
    std::vector<std::string> paths;
  };

  // Partitions that have come and are not published yet, and the look that follows them.
  struct Arrivals {
    std::map<unsigned, loop::TableEntry> partitions;
    Clock::time_point look_by;
    std::unique_ptr<Scheduler::Registration> look;
  };
  // An attachment that only its backing file's server, or a disk below, could describe, and which
  // did not answer. Until then it is not asked.
  struct Silence {
    Backoff length;
    Clock::time_point until;
    std::unique_ptr<Scheduler::Registration> question;
  };
  void partition_came(const loop::DeviceEvent& event);
  Task<void> add_partitions(unsigned number, uint64_t disk_sequence);

  void start_look(unsigned number);
  void start_looks_soon();
  void nodes_written();
  void watch_node(const Device& device);
  void publish(loop::DeviceSight sight);
  void publish(Device device);
  void forget(uint64_t disk_sequence);
  void fall_silent(unsigned number, uint64_t disk_sequence);
  bool is_silent(uint64_t disk_sequence) const;
  const Device* take_rewritten(unsigned number);
  Task<PartitionQuota::Turn> sync_if_rewritten(unsigned number);
  Task<void> look_if_asked(unsigned number);
  Task<void> look_locked(unsigned number);
  Task<bool> look_once(unsigned number);
  loop::DeviceQuestion question_of(unsigned number) const;
  Task<std::optional<loop::DeviceSight>> see(unsigned number);
  Task<loop::DeviceSight> describe_patiently(loop::DeviceSight sight);
  Task<void> forgive_if_released(unsigned number);
  Task<void> withdraw(unsigned number);
  std::optional<bool> overtaken(unsigned number, uint64_t claims);
  Task<void> clean_up(unsigned number, loop::AttachmentRecord record);
  std::optional<std::vector<std::string>> symlinks_of(const loop::DeviceSight& sight,
                                                      const Device* same) const;

  Scheduler& scheduler_;
  TaskGroup& tasks_;
  loop::LoopManager& loops_;
  loop::FileHelpers& helpers_;
  ObjectRegistry& registry_;
  PartitionQuota quota_;
  loop::FreeNumbers free_numbers_;
  loop::BackingFileWatch backing_files_;
  loop::DeviceReader reader_;
  DeviceEnumeration enumeration_;
  loop::NodeWatch nodes_;  // of devices whose partitions the service keeps
  std::unique_ptr<Scheduler::Registration> nodes_source_;
  std::set<unsigned> changed_;  // to be looked at soon
  std::unique_ptr<Scheduler::Registration> changed_timer_;
  NumberLocks looks_;  // two looks at one device must not publish in the wrong order
  NumberLocks turns_;  // of looks, so that there are not too many at once
  Symlinks symlinks_of_;
  bool has_udev_ = false;
  bool asks_for_symlinks_ = false;  // not at the start: see add_symlinks()
  std::function<void()> drain_early_events_;
  std::map<unsigned, uint64_t> noted_;  // changed, and not looked at since: by the last change
  uint64_t notes_ = 0;
  std::set<unsigned> asked_;  // looks that have not begun
  std::map<unsigned, Arrivals> arrivals_;
  std::set<unsigned> asked_to_add_;
  std::set<unsigned> rewritten_;  // disks whose table may have been written
  std::map<unsigned, Meanwhile> meanwhile_;
  std::map<unsigned, Links> links_;
  std::map<unsigned, loop::AttachmentRecord> unseen_;  // found at the start, and not looked at yet
  std::map<uint64_t, Silence> silent_;
};

}  // namespace loopd
