// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <type_traits>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/file_helpers.hpp"
#include "core/file_locality.hpp"
#include "core/path_opener.hpp"
#include "dbus/caller.hpp"
#include "dbus/clientele.hpp"
#include "dbus/device_follower.hpp"
#include "dbus/keyed_locks.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/scheduler.hpp"
#include "dbus/task.hpp"
#include "dbus/user_counts.hpp"
#include "dbus/work_lanes.hpp"

namespace loopd {

struct Limits {
  unsigned devices_per_user = 64;                   // uid 0 is not limited
  unsigned file_calls_per_user = 64;                // under way, that touch a backing file; nor here
  std::chrono::milliseconds file_patience{15'000};  // for a backing file's server; clients wait 25 s
};

// What the kernel says of every user that a user namespace has no mapping for:
// many people, so never an owner.
inline constexpr uid_t unmapped_uid = 65534;

// Throws InvalidArgs.
void require_absolute(const std::string& path);

// What the operations share: the parts of the service, who may do what, and the
// ways to a device that is alone on its number. Event loop's thread only.
class OperationContext {
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

  OperationContext(Parts all, Limits how_many) : parts(all), limits(how_many), numbers(all.scheduler) {}

  // One more call of a user that may wait for a file's server. Throws LimitsExceeded.
  // Removing is not counted: it may go on in bulk.
  UserCounts::One file_call(uid_t uid);

  Task<void> authorize(Caller caller, Action action, AuthorizationDetails details);

  // The same, with the file's name for polkit's dialog and rules. `file` is borrowed until it returns.
  Task<void> authorize_on_file(Caller caller, Action action, std::string operation, int file);

  // The device may be another one after the answer: look again.
  Task<void> authorize_on_device(Caller caller, std::string member, Target target);

  // Throws Error not_attached, stale.
  const Device& require_device(Target target) const;

  // Work for a worker: opens a backing file by path, in a helper process where the
  // way to it may lead through a server that does not answer.
  std::function<loop::UniqueFd()> path_opening(uid_t uid, std::string path, bool read_only) const;

  // Runs what may wait for a backing file's server. Throws Error timeout, naming
  // `what`; the work is left alone then.
  template <typename Work>
  Task<std::invoke_result_t<Work&>> on_patient_worker(WorkLane lane, std::string what, Work work);

  // Changes a device on a worker, alone on its number, and publishes what it is
  // afterwards. The kernel checks the disk sequence once more. `prepare` is asked for the work
  // when nobody else is at work on the device: what it is given holds until the work is done.
  template <typename Prepare>
  using Prepared = std::invoke_result_t<Prepare&, const Device&>;
  template <typename Prepare>
  auto prepare_and_work_on_device(Caller caller, Target target, Prepare prepare)
      -> Task<std::invoke_result_t<Prepared<Prepare>&, loop::LoopKernel&>>;

  template <typename Work>
  auto work_on_device(Caller caller, Target target, Work work)
      -> Task<std::invoke_result_t<Work&, loop::LoopKernel&>> {
    return prepare_and_work_on_device(caller, target, [work](const Device&) { return work; });
  }

  // After the answer to the call that is carried out now: nobody waits for the log.
  void log_soon(std::string message);

  // What the kernel can't know of a device, for now and after a restart. Throws Error failed,
  // and then nothing has changed.
  void remember(const Device& known, const loop::AttachmentTerms& terms);

  // The same of what the kernel has done already: where it can't be written, it holds for now.
  void note(const Device& known, const loop::AttachmentTerms& terms);

  // The same where the kernel's autoclear flag was set: nothing waits for a first use any more.
  // Throws Error not_attached, stale.
  void note_autoclear_armed(Target target);

  const Parts parts;
  const Limits limits;
  NumberLocks numbers;
  loop::FileLocality locality;

 private:
  void write_record(const loop::DeviceSnapshot& snapshot, const loop::AttachmentTerms& terms);
  void publish(const Device& known, const loop::AttachmentTerms& terms);

  UserCounts file_calls_;  // under way
};

loop::Error file_timeout(const std::string& what);

template <typename Work>
Task<std::invoke_result_t<Work&>> OperationContext::on_patient_worker(WorkLane lane, std::string what,
                                                                      Work work) {
  using Result = std::invoke_result_t<Work&>;
  Task<Result> task = on_worker(parts.scheduler, lane, std::move(work), Clock::now() + limits.file_patience);
  try {
    if constexpr (std::is_void_v<Result>) {
      co_await task;
    } else {
      Result result = co_await task;
      co_return result;
    }
  } catch (const WorkTimedOut&) {
    throw file_timeout(what);
  }
}

template <typename Prepare>
auto OperationContext::prepare_and_work_on_device(Caller caller, Target target, Prepare prepare)
    -> Task<std::invoke_result_t<Prepared<Prepare>&, loop::LoopKernel&>> {
  using Result = std::invoke_result_t<Prepared<Prepare>&, loop::LoopKernel&>;
  const auto lock = co_await numbers.acquire(target.number);
  const Device& device = require_device(target);
  const bool local = device.terms.served_locally;
  const auto job = [&helpers = parts.helpers, uid = caller.uid, local, work = prepare(device)]() mutable {
    const auto way = helpers.way(local, uid);
    return work(way->kernel());
  };
  Task<Result> task = on_patient_worker(WorkLane{caller.uid, true}, loop::kernel_name(target.number), job);
  if constexpr (std::is_void_v<Result>) {
    co_await task;
    co_await parts.follower.look(target.number);
  } else {
    Result result = co_await task;
    co_await parts.follower.look(target.number);
    co_return result;
  }
}

}  // namespace loopd
