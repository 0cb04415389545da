// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <systemd/sd-bus.h>

#include <cstdint>
#include <string>

namespace loopd {

// What the bus would answer, on a connection without one: clients that take a
// private connection for a bus (busctl, `sd_bus_set_bus_client`, GDBus) greet it,
// subscribe to signals and ask who owns the service's name. Every signal is sent to
// every peer anyway, so subscriptions are accepted and not kept.
class PeerDriver {
 public:
  // `bus` must outlive it. Throws sdbus::Error.
  PeerDriver(sd_bus* bus, uint64_t peer_number);
  ~PeerDriver();
  PeerDriver(const PeerDriver&) = delete;
  PeerDriver& operator=(const PeerDriver&) = delete;

  // What our messages say where they come from; before the first is sent.
  static int set_sender(sd_bus* bus);

 private:
  static const sd_bus_vtable vtable[];
  static int hello(sd_bus_message* call, void* self, sd_bus_error* error);
  static int get_name_owner(sd_bus_message* call, void* self, sd_bus_error* error);
  static int name_has_owner(sd_bus_message* call, void* self, sd_bus_error* error);
  static int start_service(sd_bus_message* call, void* self, sd_bus_error* error);
  static int accept_rule(sd_bus_message* call, void* self, sd_bus_error* error);
  static int get_unix_user(sd_bus_message* call, void* self, sd_bus_error* error);

  std::string peer_name_;
  sd_bus_slot* slot_ = nullptr;
};

}  // namespace loopd
