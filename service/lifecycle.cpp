// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/lifecycle.hpp"

#include <malloc.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cstdlib>

#include "service/log.hpp"

namespace loopd {
namespace {

using namespace std::chrono_literals;

// How long calls under way, and the bus, may take to end.
constexpr auto leave_patience = 5s;

constexpr auto flush_patience = 1s;

// A bus that has started us for a call is there, and gives us our name within
// this; without one (early boot) we are not here for it.
constexpr auto bus_patience = 5s;

// What happens within this is told together.
constexpr auto status_delay = 100ms;

// So long nothing has been done when the memory that it took is given back.
constexpr auto trim_delay = 1s;

// The unit's RestartForceExitStatus=: between the decision to leave and the end
// somebody was promised what only a service that runs can keep.
constexpr int exit_and_restart = 75;

std::string count(size_t number, const std::string& what) {
  return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
}

}  // namespace

Lifecycle::Lifecycle(Parts parts, std::optional<std::chrono::microseconds> idle_timeout)
    : parts_(parts), idle_timeout_(idle_timeout) {
  for (TaskGroup* group : {&parts_.calls, &parts_.looks}) {
    group->on_empty([this] { work_has_ended(); });
  }
  parts_.peers.on_leave([this] { work_has_ended(); });
}

void Lifecycle::started() {
  calls_wait_for_links_ = true;
  log::info("ready, " + count(parts_.registry.devices().size(), "device") + " attached");
  sd_notify(0, "READY=1");
  work_has_ended();
}

void Lifecycle::links_are_known() {
  calls_wait_for_links_ = false;
  if (leaving_) end_if_done();
}

// Whatever changes how many devices, clients, leases there are does so in a task.
void Lifecycle::work_has_ended() {
  if (leaving_) return end_if_done();
  if (!status_timer_)
    status_timer_ = parts_.events.at(Clock::now() + status_delay, [this] { tell_status(); });
  idle_since_ = Clock::now();
  if (!trim_timer_) trim_memory_when_quiet();
  if (idle_timeout_ && !idle_timer_ && is_idle()) watch_idleness(idle_since_ + *idle_timeout_);
}

void Lifecycle::bus_has_settled() {
  idle_timer_.reset();
  work_has_ended();
}

// libc itself gives back what is free at the end of the heap alone, and what a crowd leaves is
// free between what stays.
void Lifecycle::trim_memory_when_quiet() {
  trim_timer_ = parts_.events.at(idle_since_ + trim_delay, [this] {
    trim_timer_.reset();
    if (Clock::now() < idle_since_ + trim_delay) return trim_memory_when_quiet();
    ::malloc_trim(0);
  });
}

bool Lifecycle::is_idle() const {
  return parts_.calls.empty() && parts_.looks.empty() && parts_.bus.client_count() == 0 &&
         parts_.peers.size() == 0;
}

// Something is to happen to a device when its holder leaves, or its user comes.
bool Lifecycle::holds_a_promise() const {
  const auto& devices = parts_.registry.devices();
  return std::any_of(devices.begin(), devices.end(), [](const auto& entry) {
    const loop::AttachmentTerms& terms = entry.second.terms;
    return !terms.lease.empty() || terms.autoclear_pending;
  });
}

// What ends a time that is not idle calls work_has_ended(), and this is asked
// again: no wake-up without a reason.
void Lifecycle::watch_idleness(Clock::time_point when) {
  idle_timer_ = parts_.events.at(when, [this] {
    idle_timer_.reset();
    if (!is_idle() || holds_a_promise()) return;
    const auto end = idle_since_ + *idle_timeout_;
    if (Clock::now() < end) return watch_idleness(end);
    // To leave now might leave a bus waiting for our name.
    const auto unsettled = parts_.bus.unsettled_since();
    if (unsettled && Clock::now() < *unsettled + bus_patience)
      return watch_idleness(*unsettled + bus_patience);
    idle_exit_ = true;
    stop("idle");
  });
}

void Lifecycle::stop(const std::string& reason) {
  if (leaving_) return;
  log::info("stopping (" + reason + ")");
  leave();
}

// Who connects from here on waits in the socket's queue, and who calls by name
// waits at the bus, both for the next service. What was sent to this one before is
// answered by it.
void Lifecycle::leave() {
  leaving_ = true;
  parts_.peers.stop_listening();
  sd_notify(0, "STOPPING=1");
  leave_timer_ = parts_.events.at(Clock::now() + leave_patience, [this] {
    log::warning("calls are still under way, leaving them");
    parts_.events.exit(EXIT_SUCCESS);
  });
  parts_.bus.leave([this] {
    name_released_ = true;
    end_if_done();
  });
}

void Lifecycle::end_if_done() {
  if (!name_released_ || calls_wait_for_links_) return;
  parts_.peers.dispatch();
  parts_.bus.dispatch();
  if (!parts_.calls.empty()) return;
  parts_.bus.flush(Clock::now() + flush_patience);
  parts_.events.exit(idle_exit_ && holds_a_promise() ? exit_and_restart : EXIT_SUCCESS);
}

void Lifecycle::fail() { parts_.events.exit(EXIT_FAILURE); }

void Lifecycle::tell_status() {
  status_timer_.reset();
  const std::string status = "STATUS=" + count(parts_.registry.devices().size(), "device") + ", " +
                             count(parts_.bus.client_count() + parts_.peers.size(), "client");
  if (status == status_) return;
  status_ = status;
  sd_notify(0, status.c_str());
}

}  // namespace loopd
