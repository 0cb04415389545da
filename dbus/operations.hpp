// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "core/file_helpers.hpp"
#include "core/image_probe.hpp"
#include "core/loop_manager.hpp"
#include "core/path_opener.hpp"
#include "core/resizing.hpp"
#include "core/unique_fd.hpp"
#include "dbus/caller.hpp"
#include "dbus/client_directory.hpp"
#include "dbus/clientele.hpp"
#include "dbus/device_follower.hpp"
#include "dbus/keyed_locks.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/options.hpp"
#include "dbus/scheduler.hpp"
#include "dbus/task.hpp"

namespace loopd {

// One attachment: what a caller saw as a device's object.
struct Target {
  unsigned number = 0;
  uint64_t disk_sequence = 0;

  auto operator<=>(const Target&) const = default;
};

class Operations;

// What follows the answer to a removal. A device's object has to stay until its
// calls are answered: sd-bus checks a reply against the method's description,
// which the object owns. Nothing else is dispatched between the answer and this,
// so that the caller's next message finds it gone. Holds the number's lock and
// claim. Does it all in the destructor at the latest.
class AfterRemoval {
 public:
  AfterRemoval() = default;
  AfterRemoval(Operations& operations, Target target, NumberLocks::Lock lock);
  AfterRemoval(AfterRemoval&& other) noexcept;
  AfterRemoval& operator=(AfterRemoval&&) = delete;
  ~AfterRemoval() { end(); }

  void end();

  bool gone = false;  // the device, at once

 private:
  Operations* operations_ = nullptr;
  Target target_;
  NumberLocks::Lock lock_;
  loop::NumberClaims::Claim claim_;
};

struct Limits {
  unsigned devices_per_user = 64;                   // uid 0 is not limited
  unsigned file_calls_per_user = 64;                // under way, that touch a backing file; nor here
  std::chrono::milliseconds file_patience{15'000};  // for a backing file's server; clients wait 25 s
};

// What the methods of the contract do, each to be read from top to bottom:
// decode, authorize, do, publish. Objects on the bus only hand their calls on to
// here, as they may be gone while a call is still under way. Throws what
// errors.hpp knows. Event loop's thread only.
class Operations {
 public:
  // All borrowed.
  struct Parts {
    Scheduler& scheduler;
    loop::LoopManager& loops;
    const loop::PathOpener& paths;
    loop::FileHelpers& helpers;
    ObjectRegistry& registry;
    DeviceFollower& follower;
    std::function<void(const std::string&)> log;  // what an administrator wants to read later
  };

  Operations(Parts parts, Limits limits)
      : parts_(parts), limits_(limits), numbers_(parts.scheduler), files_(parts.scheduler) {}

  const Limits& limits() const { return limits_; }
  ObjectRegistry& registry() { return parts_.registry; }

  // Object paths.
  Task<std::string> attach(Caller caller, loop::UniqueFd file, Options options);
  Task<std::string> attach_path(Caller caller, std::string path, Options options);
  // What attaching would do, without doing it.
  struct ProbeResult {
    loop::ImageFacts facts;
    std::vector<std::string> overlaps;  // object paths
  };
  Task<ProbeResult> probe(Caller caller, loop::UniqueFd file, Options options);
  Task<std::string> get_device(std::string dev_path);
  Task<std::vector<std::string>> find_by_file(loop::UniqueFd file);
  Task<std::vector<std::string>> find_by_path(Caller caller, std::string path);

  // Object path, device path, backing file, reference.
  using Listing = std::vector<std::tuple<std::string, std::string, std::string, std::string>>;
  Task<Listing> list_devices();

  Task<loop::DeviceSizes> resize(Caller caller, Target target, Options options);
  Task<loop::UniqueFd> open(Caller caller, Target target, std::string mode);
  Task<void> set_autoclear(Caller caller, Target target, bool enable);
  Task<void> set_direct_io(Caller caller, Target target, bool enable);
  Task<void> rescan_partitions(Caller caller, Target target);
  Task<AfterRemoval> remove(Caller caller, Target target, Options options);

  // Ends what the client held: its leases.
  Task<void> client_left(std::string clientele, std::string name);

  // At start: private peers of a service before this one are gone with it.
  Task<void> end_private_leases();

  // When the bus is there: ends the leases of clients that left unheard, while no
  // service ran, or with the bus before: names start anew on another.
  Task<void> check_leases(std::shared_ptr<ClientDirectory> bus);

  // To be called when the mount table has changed.
  void mounts_changed() { locality_.clear(); }

  // To be called when a mount, swap or other block device may have come: sets the
  // kernel's flag on devices whose autoclear is pending and that are used now.
  Task<void> arm_autoclear();

  // Reads again what changes without an event, for Get and GetAll, and tells the
  // difference soon.
  void refresh(unsigned number);

 private:
  friend class AfterRemoval;
  class Reservation;
  class FileCall;

  bool is_served_locally(int fd, const loop::FileIdentity& file);
  std::function<loop::UniqueFd()> path_opening(uid_t uid, std::string path, bool read_only);
  Task<std::shared_ptr<loop::Removal>> make_removal(Target target, loop::RemovalOptions options);
  Task<void> authorize(Caller caller, Action action, AuthorizationDetails details);
  Task<void> authorize_on_device(Caller caller, std::string member, Target target);
  Task<std::string> attach_file(Caller caller, loop::UniqueFd file, AttachOptions options);
  const Device* find_reusable(const loop::FileIdentity& file, const AttachOptions& options,
                              const loop::AttachRequest& request, uid_t uid) const;
  Task<void> probe_block_size(uid_t uid, loop::AttachRequest& request);
  void refuse_overlap(const loop::FileIdentity& file, const loop::AttachRequest& request) const;
  std::vector<const Device*> find_overlaps(const loop::FileIdentity& file,
                                           const loop::AttachRequest& request) const;
  std::map<Target, loop::AttachmentTerms> leases() const;
  Task<void> end_lease(Target target);
  Task<AfterRemoval> remove_now(Target target, RemoveOptions options);
  Task<loop::Removal::State> try_removal(std::shared_ptr<loop::Removal> removal, Target target);
  void defer_removal(Target target, bool keep_node);
  template <typename Work>
  auto work_on_device(Caller caller, Target target, Work work)
      -> Task<std::invoke_result_t<Work&, loop::LoopKernel&>>;
  void remember(const Device& known, const loop::AttachmentTerms& terms);
  std::vector<std::string> backed_by(const loop::FileIdentity& file) const;
  const Device& require_device(Target target) const;

  Parts parts_;
  Limits limits_;
  NumberLocks numbers_;
  KeyedLocks<loop::FileIdentity> files_;      // reuse and overlap are decided one after another for each file
  std::map<dev_t, bool> locality_;            // by file system: what is_served_locally() said
  std::map<uid_t, unsigned> file_calls_;      // under way, by user
  std::map<uid_t, unsigned> attaching_;       // by user, counted into the limit
  std::set<std::string> pending_references_;  // of attaches under way
};

}  // namespace loopd
