// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <systemd/sd-bus.h>

#include <cstdint>
#include <functional>
#include <string>

namespace loopd {

// What the bus would answer, on a connection without one: clients that take a
// private connection for a bus (busctl, `sd_bus_set_bus_client`, GDBus) greet it,
// subscribe to signals and ask who owns the service's name. Every signal is sent to
// every peer anyway, so subscriptions are accepted and not kept.
class PeerDriver {
 public:
  // `bus` must outlive it. `greeted` is called when the peer may be sent anything:
  // one that says Hello takes every message before the answer for a broken bus, so
  // nothing is sent before the first message has come. Throws sdbus::Error.
  PeerDriver(sd_bus* bus, uint64_t peer_number, std::function<void()> greeted);
  ~PeerDriver();
  PeerDriver(const PeerDriver&) = delete;
  PeerDriver& operator=(const PeerDriver&) = delete;

  // What our messages say where they come from; before the first is sent.
  static int set_sender(sd_bus* bus);

 private:
  static const sd_bus_vtable vtable[];
  static int on_message(sd_bus_message* message, void* self, sd_bus_error* error);
  void greet();
  static int hello(sd_bus_message* call, void* self, sd_bus_error* error);
  static int get_name_owner(sd_bus_message* call, void* self, sd_bus_error* error);
  static int name_has_owner(sd_bus_message* call, void* self, sd_bus_error* error);
  static int start_service(sd_bus_message* call, void* self, sd_bus_error* error);
  static int accept_rule(sd_bus_message* call, void* self, sd_bus_error* error);
  static int get_unix_user(sd_bus_message* call, void* self, sd_bus_error* error);

  std::string peer_name_;
  std::function<void()> greeted_;
  sd_bus_slot* objects_ = nullptr;
  sd_bus_slot* filter_ = nullptr;
};

}  // namespace loopd
