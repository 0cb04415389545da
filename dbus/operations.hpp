// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "core/image_probe.hpp"
#include "core/loop_manager.hpp"
#include "core/path_opener.hpp"
#include "core/resizing.hpp"
#include "core/unique_fd.hpp"
#include "dbus/authorizer.hpp"
#include "dbus/caller.hpp"
#include "dbus/device_follower.hpp"
#include "dbus/keyed_locks.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/options.hpp"
#include "dbus/scheduler.hpp"
#include "dbus/task.hpp"

namespace loopd {

struct Limits {
  unsigned devices_per_user = 64;                   // uid 0 is not limited
  std::chrono::milliseconds file_patience{15'000};  // for a backing file's server; clients wait 25 s
};

// What the methods of the contract do, each to be read from top to bottom:
// decode, authorize, do, publish. Objects on the bus only hand their calls on to
// here, as they may be gone while a call is still under way. Throws what
// errors.hpp knows. Event loop's thread only.
class Operations {
 public:
  // All borrowed. `authorizer` is null where nobody but root can call.
  struct Parts {
    Scheduler& scheduler;
    loop::LoopManager& loops;
    const loop::PathOpener& paths;
    ObjectRegistry& registry;
    DeviceFollower& follower;
  };

  Operations(Parts parts, Limits limits)
      : parts_(parts), limits_(limits), numbers_(parts.scheduler), files_(parts.scheduler) {}

  // Peers of the private socket need none.
  void set_authorizer(Authorizer* authorizer) { authorizer_ = authorizer; }
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

  // The device is the attachment that the caller saw: number and disk sequence.
  Task<loop::DeviceSizes> resize(Caller caller, unsigned number, uint64_t disk_sequence);
  Task<void> remove(Caller caller, unsigned number, uint64_t disk_sequence, Options options);

  // Reads again what changes without an event, for Get and GetAll, and tells the
  // difference soon.
  void refresh(unsigned number);

 private:
  class Reservation;

  Task<void> authorize(Caller caller, Action action, Authorizer::Details details);
  Task<void> authorize_on_device(Caller caller, std::string member, unsigned number, uint64_t disk_sequence);
  Task<std::string> attach_file(Caller caller, loop::UniqueFd file, AttachOptions options);
  const Device* find_reusable(const loop::FileIdentity& file, const loop::AttachRequest& request,
                              uid_t uid) const;
  void refuse_overlap(const loop::FileIdentity& file, const loop::AttachRequest& request) const;
  std::vector<const Device*> find_overlaps(const loop::FileIdentity& file,
                                           const loop::AttachRequest& request) const;
  Task<void> remove_now(unsigned number, uint64_t disk_sequence, RemoveOptions options);
  void remember_node_deletion(unsigned number, uint64_t disk_sequence);
  std::vector<std::string> backed_by(const loop::FileIdentity& file) const;
  const Device& require_device(unsigned number, uint64_t disk_sequence) const;

  Parts parts_;
  Limits limits_;
  Authorizer* authorizer_ = nullptr;
  NumberLocks numbers_;
  KeyedLocks<loop::FileIdentity> files_;      // reuse and overlap are decided one after another for each file
  std::map<uid_t, unsigned> attaching_;       // by user, counted into the limit
  std::set<std::string> pending_references_;  // of attaches under way
};

}  // namespace loopd
