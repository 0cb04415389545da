// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/bus_pump.hpp"

#include <fcntl.h>
#include <poll.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/unique_fd.hpp"
#include "service/system_error.hpp"

namespace loopd {
namespace {

// In messages. What waits beyond the first is answers to a peer that does not
// read; beyond the second it is signals, which come whatever the peer does: some
// hundred bytes each, and a burst of them is nobody's fault.
constexpr uint64_t most_before_reading_on = 64;
constexpr uint64_t most_queued = 16'384;

// No more small messages fit into the buffer of the authentication, 64 KiB.
constexpr uint64_t most_that_came_along = 1'024;

constexpr const char* cannot_drive = "cannot drive a private connection";

uint64_t queued(sd_bus* bus) {
  uint64_t messages = 0;
  return sd_bus_get_n_queued_write(bus, &messages) < 0 ? 0 : messages;
}

}  // namespace

// sd-bus closes its descriptor when the peer has hung up, and io_ is still there. epoll
// forgets one that was closed only where nobody has a copy, and a helper that is just being
// started has copies of all: it would then tell of a source that is gone. So io_ has a
// descriptor of its own, which is closed after it is not watched any more.
BusPump::BusPump(sd_event* events, sd_bus* bus, Hooks hooks) : bus_(bus), hooks_(std::move(hooks)) {
  loop::UniqueFd watched(::fcntl(sd_bus_get_fd(bus), F_DUPFD_CLOEXEC, 3));
  check(watched ? 0 : -errno, cannot_drive);
  check(sd_event_add_io(events, &io_, watched.get(), 0, on_io, this), cannot_drive);
  check(sd_event_source_set_io_fd_own(io_, 1), cannot_drive);
  watched.release();
  check(sd_event_add_time(events, &time_, CLOCK_MONOTONIC, 0, 0, on_time, this), cannot_drive);
  check(sd_event_source_set_enabled(time_, SD_EVENT_OFF), cannot_drive);
  check(sd_event_source_set_prepare(io_, on_prepare), cannot_drive);
}

BusPump::~BusPump() {
  sd_event_source_disable_unref(io_);
  sd_event_source_disable_unref(time_);
}

int BusPump::on_prepare(sd_event_source*, void* self) {
  auto* pump = static_cast<BusPump*>(self);
  if (!pump->ended_ && !pump->prepare()) pump->end();
  return 0;
}

int BusPump::on_io(sd_event_source*, int, uint32_t, void* self) {
  static_cast<BusPump*>(self)->process();
  return 0;
}

int BusPump::on_time(sd_event_source*, uint64_t, void* self) {
  static_cast<BusPump*>(self)->process();
  return 0;
}

// Called before each wait. False: there is nothing to wait for any more.
bool BusPump::prepare() {
  const uint64_t waiting = queued(bus_);
  if (sd_bus_is_open(bus_) <= 0 || waiting > most_queued) return false;
  if (waiting > most_before_reading_on) {
    return sd_event_source_set_io_events(io_, POLLOUT) >= 0 &&
           sd_event_source_set_enabled(time_, SD_EVENT_OFF) >= 0;
  }
  return prepare_to_read();
}

bool BusPump::prepare_to_read() {
  const int events = sd_bus_get_events(bus_);
  uint64_t until = 0;
  if (events < 0 || sd_bus_get_timeout(bus_, &until) < 0) return false;
  if (sd_event_source_set_io_events(io_, static_cast<uint32_t>(events)) < 0) return false;
  // 0: a message was read along with another, and waits.
  return until == UINT64_MAX ? sd_event_source_set_enabled(time_, SD_EVENT_OFF) >= 0
                             : sd_event_source_set_time(time_, until) >= 0 &&
                                   sd_event_source_set_enabled(time_, SD_EVENT_ONESHOT) >= 0;
}

void BusPump::process() {
  if (ended_) return;
  if (sd_bus_process(bus_, nullptr) < 0) return end();
  if (!ready_ && sd_bus_is_ready(bus_) > 0) {
    ready_ = true;
    hooks_.ready();
    // Messages that a client has sent right behind its authentication are in sd-bus's buffer by now, and
    // no event tells of them.
    dispatch(most_that_came_along);
  }
}

void BusPump::dispatch() {
  uint64_t messages = 0;
  if (sd_bus_get_n_queued_read(bus_, &messages) >= 0) dispatch(messages);
}

void BusPump::dispatch(uint64_t most) {
  for (uint64_t i = 0; i < most && !ended_; ++i) {
    const int r = sd_bus_process(bus_, nullptr);
    if (r < 0) return end();
    if (r == 0) return;
  }
}

void BusPump::end() {
  ended_ = true;
  sd_event_source_set_enabled(io_, SD_EVENT_OFF);
  sd_event_source_set_enabled(time_, SD_EVENT_OFF);
  hooks_.ended();
}

}  // namespace loopd
