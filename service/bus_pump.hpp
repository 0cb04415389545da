// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include <functional>

namespace loopd {

// Drives one peer's connection on the event loop, one message at a time, so that
// no peer keeps the others waiting. A peer that does not read what it is sent is
// not read from either, which bounds the replies that wait for it; one that does
// not read the signals is dropped.
//
// (The system bus is driven by libsystemd's own attachment: there the bus bounds
// its clients.)
class BusPump {
 public:
  struct Hooks {
    std::function<void()> ready;  // once: authenticated, nothing dispatched yet
    std::function<void()> ended;  // once; may not destroy the pump from within
  };

  // Borrows the bus, which is started. Throws std::system_error.
  BusPump(sd_event* events, sd_bus* bus, Hooks hooks);
  ~BusPump();
  BusPump(const BusPump&) = delete;
  BusPump& operator=(const BusPump&) = delete;

  // Dispatches what has been read by now.
  void dispatch();

 private:
  static int on_prepare(sd_event_source* source, void* self);
  static int on_io(sd_event_source* source, int fd, uint32_t ready, void* self);
  static int on_time(sd_event_source* source, uint64_t now, void* self);

  bool prepare();
  bool prepare_to_read();
  void process();
  void dispatch(uint64_t most);
  void end();

  sd_bus* bus_;
  Hooks hooks_;
  sd_event_source* io_ = nullptr;
  sd_event_source* time_ = nullptr;
  bool ready_ = false;
  bool ended_ = false;
};

}  // namespace loopd
