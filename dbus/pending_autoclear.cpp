// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/pending_autoclear.hpp"

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
    const std::set<unsigned> pending = pending_;
    const auto find = [&kernel = context_.parts.loops.kernel(), pending] {
      std::set<unsigned> used;
      for (const unsigned number : pending) {
        if (loop::is_used(kernel, number)) used.insert(number);
      }
      return used;
    };
    const std::set<unsigned> used = co_await on_worker(context_.parts.scheduler, kernel_lane, find);
    for (const unsigned number : used) {
      const Device* device = context_.parts.registry.find(number);
      if (device != nullptr) co_await arm({number, device->snapshot.disk_sequence});
    }
  }
}

Task<void> PendingAutoclear::arm(Target target) {
  const auto work = [target](loop::LoopKernel& kernel) {
    loop::set_autoclear(kernel, target.number, target.disk_sequence, true);
  };
  try {
    co_await context_.work_on_device(Caller(), target, work);
    loop::AttachmentTerms terms = context_.require_device(target).terms;
    terms.autoclear_pending = false;
    context_.remember(context_.require_device(target), terms);
  } catch (const loop::Error&) {
    // Gone in the meantime; or it does not answer, and is tried again at the next
    // change.
  }
}

}  // namespace loopd
