// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/change_operations.hpp"

#include <exception>
#include <utility>
#include <vector>

#include "core/device_settings.hpp"
#include "core/error.hpp"
#include "core/holders.hpp"
#include "core/partitioning.hpp"
#include "dbus/errors.hpp"

namespace loopd {

Task<loop::DeviceSizes> ChangeOperations::resize(Caller caller, Target target, Options options) {
  const auto call = context_.file_call(caller.uid);
  const loop::ResizeOptions decoded = decode_resize_options(options);
  co_await context_.authorize_on_device(caller, "Resize", target);
  const auto work = [target, decoded](loop::LoopKernel& kernel) {
    return loop::resize(kernel, target.number, target.disk_sequence, decoded);
  };
  const loop::DeviceSizes sizes = co_await context_.work_on_device(caller, target, work);
  context_.log_soon("resized " + loop::kernel_name(target.number) + " from " + std::to_string(sizes.before) +
                    " to " + std::to_string(sizes.after) + " bytes for user " + std::to_string(caller.uid));
  co_return sizes;
}

Task<loop::UniqueFd> ChangeOperations::open(Caller caller, Target target, std::string mode) {
  const auto call = context_.file_call(caller.uid);
  if (mode != "r" && mode != "rw") throw_invalid("mode: '" + mode + "' is neither r nor rw");
  co_await context_.authorize_on_device(caller, "Open", target);
  bool armed = false;
  const auto prepare = [&armed, target, writable = mode == "rw"](const Device& device) {
    armed = device.terms.autoclear_pending;
    return [target, arm = armed, writable](loop::LoopKernel& kernel) {
      loop::UniqueFd fd = loop::open_device(kernel, target.number, target.disk_sequence, writable);
      if (arm)
        loop::set_autoclear(kernel, target.number, target.disk_sequence, true);  // this is the first use
      return fd;
    };
  };
  loop::UniqueFd fd = co_await context_.prepare_and_work_on_device(caller, target, prepare);
  if (armed) context_.note_autoclear_armed(target);
  co_return fd;
}

Task<void> ChangeOperations::set_autoclear(Caller caller, Target target, bool enable) {
  const auto call = context_.file_call(caller.uid);
  co_await context_.authorize_on_device(caller, "SetAutoclear", target);
  // Set on a device that nobody uses, the kernel's flag would end it at once.
  const auto prepare = [target, enable, &registry = context_.parts.registry](const Device& device) {
    return [target, enable, below = registry.has_loop_device_on_top(device)](loop::LoopKernel& kernel) {
      const bool now = !enable || below || loop::is_used(kernel, target.number);
      if (now) loop::set_autoclear(kernel, target.number, target.disk_sequence, enable);
      return now;
    };
  };
  const bool done = co_await context_.prepare_and_work_on_device(caller, target, prepare);
  const Device& device = context_.require_device(target);
  loop::AttachmentTerms terms = device.terms;
  terms.autoclear_pending = enable && !done;
  if (enable) terms.delete_node = true;
  if (enable && done) {
    context_.note(device, terms);
  } else {
    context_.remember(device, terms);
  }
}

Task<void> ChangeOperations::set_direct_io(Caller caller, Target target, bool enable) {
  const auto call = context_.file_call(caller.uid);
  co_await context_.authorize_on_device(caller, "SetDirectIO", target);
  const auto work = [target, enable](loop::LoopKernel& kernel) {
    loop::set_direct_io(kernel, target.number, target.disk_sequence, enable);
  };
  co_await context_.work_on_device(caller, target, work);
}

Task<void> ChangeOperations::rescan_partitions(Caller caller, Target target) {
  const auto call = context_.file_call(caller.uid);
  co_await context_.authorize_on_device(caller, "RescanPartitions", target);
  const auto lock = co_await context_.numbers.acquire(target.number);
  loop::AttachmentTerms terms = context_.require_device(target).terms;
  terms.keeps_partitions = true;
  context_.remember(context_.require_device(target), terms);

  PartitionQuota& quota = context_.parts.follower.partition_quota();
  const PartitionQuota::Turn turn = co_await quota.turn(terms.owner);
  const size_t room = quota.room_for(target.number, terms.owner);
  context_.require_device(target);  // still
  auto claim = context_.parts.loops.claim(target.number);
  const auto work = [&helpers = context_.parts.helpers, uid = caller.uid, local = terms.served_locally,
                     target, room] {
    const auto way = helpers.way(local, uid);
    return loop::sync_partitions(way->kernel(), target.number, target.disk_sequence,
                                 loop::WithoutTable::delete_all, room);
  };
  std::exception_ptr failure;
  try {
    const std::vector<loop::TableEntry> added = co_await context_.on_patient_worker(
        WorkLane{caller.uid, true}, loop::kernel_name(target.number), work);
    co_await context_.parts.follower.wait_for_udev(target.number, target.disk_sequence, added);
  } catch (...) {
    failure = std::current_exception();
  }
  claim.release();
  context_.parts.follower.settle(target.number);
  co_await context_.parts.follower.look(target.number);
  if (failure) std::rethrow_exception(failure);
}

}  // namespace loopd
