// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "core/device_snapshot.hpp"
#include "core/image_probe.hpp"
#include "core/unique_fd.hpp"
#include "dbus/keyed_locks.hpp"
#include "dbus/operation_context.hpp"
#include "dbus/options.hpp"
#include "dbus/task_group.hpp"

namespace loopd {

// What changes nothing: Probe, GetDevice, FindByFile, FindByPath, ListDevices.
class FindOperations {
 public:
  // Both are borrowed.
  FindOperations(OperationContext& context, TaskGroup& tasks)
      : context_(context), tasks_(tasks), turns_(context.parts.scheduler) {}

  // What attaching would do, without doing it.
  struct ProbeResult {
    loop::ImageFacts facts;
    std::vector<std::string> overlaps;  // object paths
  };
  Task<ProbeResult> probe(Caller caller, loop::UniqueFd file, Options options);

  // Object paths.
  Task<std::string> get_device(std::string dev_path);
  Task<std::vector<std::string>> find_by_file(loop::UniqueFd file);
  Task<std::vector<std::string>> find_by_path(Caller caller, std::string path);

  // Object path, device path, backing file, reference.
  using Listing = std::vector<std::tuple<std::string, std::string, std::string, std::string>>;
  Task<Listing> list_devices();

  // Reads again what changes without an event, for Get and GetAll, and tells the
  // difference.
  void refresh(unsigned number, loop::Volatile what);

  // The same of all devices, on a worker: thousands would hold up the event loop. Who asks
  // while one look is under way shares the next.
  Task<void> refresh_all();

  // Begins that, once for all who ask before it begins, and not again within a second.
  void refresh_all_soon();

 private:
  struct Look {
    loop::DeviceSnapshot before;    // as it was published when the look began
    loop::DeviceSnapshot snapshot;  // as it is
    uint64_t claims = 0;            // on its number, so far
    bool attached = true;
  };

  std::vector<Look> looks_at_all() const;
  void publish(const Look& look);
  Task<void> look_at_all();  // to be called with the turn
  Task<void> refresh_in_background();

  const Device* find_attached(unsigned number) const;
  std::vector<std::string> backed_by(const loop::FileIdentity& file) const;

  OperationContext& context_;
  TaskGroup& tasks_;          // for looks that nobody waits for
  KeyedLocks<int> turns_;     // of refresh_all(); one key
  uint64_t asked_ = 0;        // for refresh_all(), how often
  uint64_t answered_to_ = 0;  // up to whom the last one that has begun is for
  bool background_waits_ = false;
  Clock::time_point next_in_background_;
};

}  // namespace loopd
