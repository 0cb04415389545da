// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/pending_autoclear.hpp"

#include <exception>
#include <utility>

#include "core/device_settings.hpp"
#include "core/error.hpp"
#include "core/holders.hpp"

namespace loopd {

PendingAutoclear::PendingAutoclear(OperationContext& context, TaskGroup& tasks)
    : context_(context), tasks_(tasks) {
  context_.parts.registry.subscribe(*this);
}

PendingAutoclear::~PendingAutoclear() { context_.parts.registry.unsubscribe(*this); }

// A loop device may lie on a node of one that waits.
void PendingAutoclear::device_added(const Device& device) {
  terms_changed(device);
  if (device.snapshot.backing.block_device) look_soon();
}

void PendingAutoclear::device_changed(const Device& device, const std::vector<std::string>&) {
  if (device.snapshot.backing.block_device) look_soon();
}

void PendingAutoclear::device_removed(const Device& device) {
  pending_.erase(device.snapshot.number);
  follow_mounts();
}

void PendingAutoclear::terms_changed(const Device& device) {
  const unsigned number = device.snapshot.number;
  if (!device.terms.autoclear_pending) {
    pending_.erase(number);
    follow_mounts();
  } else if (pending_.insert(number).second) {
    follow_mounts();
    look_soon();  // it may have come into use before anybody watched
  }
}

void PendingAutoclear::follow_mounts() {
  if (pending_.empty()) {
    mounts_source_.reset();
    mounts_.reset();
  } else if (!mounts_) {
    mounts_.emplace();
    mounts_source_ = context_.parts.scheduler.on_readable(mounts_->fd(), [this] {
      mounts_->drain();
      look_soon();
    });
  }
}

// Changes come in bursts; those that come during a look share the next one.
void PendingAutoclear::look_soon() {
  if (pending_.empty()) return;
  look_again_ = true;
  if (!looking_) tasks_.start(look());
}

Task<void> PendingAutoclear::look() {
  looking_ = true;
  const auto done = [this](void*) { looking_ = false; };
  const std::unique_ptr<void, decltype(done)> at_the_end(this, done);
  while (std::exchange(look_again_, false)) {
    const auto find = [&kernel = context_.parts.loops.kernel(), candidates = candidates()] {
      std::vector<Target> used;
      for (const auto& [target, below] : candidates) {
        if (below || loop::is_used(kernel, target.number)) used.push_back(target);
      }
      return used;
    };
    // Side by side: one whose file's server does not answer must not hold up the others.
    for (const Target target : co_await on_worker(context_.parts.scheduler, kernel_lane, find)) {
      if (arming_.insert(target).second) tasks_.start(arm(target));
    }
  }
}

// The devices that wait, and whether a loop device lies on them.
std::vector<std::pair<Target, bool>> PendingAutoclear::candidates() const {
  const ObjectRegistry& registry = context_.parts.registry;
  std::vector<std::pair<Target, bool>> found;
  for (const unsigned number : pending_) {
    const Device* device = registry.find(number);
    if (device == nullptr) continue;
    found.push_back({{number, device->snapshot.disk_sequence}, registry.has_loop_device_on_top(*device)});
  }
  return found;
}

Task<void> PendingAutoclear::arm(Target target) {
  const auto forget = [this, target](void*) { arming_.erase(target); };
  const std::unique_ptr<void, decltype(forget)> at_the_end(this, forget);
  // Somebody may have taken the wish back, or opened the device, before it was our turn.
  const auto prepare = [target](const Device& device) {
    if (!device.terms.autoclear_pending) throw loop::Error(loop::Errc::stale, "nothing waits any more");
    return [target](loop::LoopKernel& kernel) {
      loop::set_autoclear(kernel, target.number, target.disk_sequence, true);
    };
  };
  try {
    co_await context_.prepare_and_work_on_device(Caller(), target, prepare);
    context_.note_autoclear_armed(target);
  } catch (const std::exception&) {
    // Gone in the meantime; or it does not answer, or no worker is to be had, and it is tried
    // again at the next change.
  }
}

}  // namespace loopd
