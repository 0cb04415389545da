// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <systemd/sd-bus.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "dbus/backoff.hpp"
#include "dbus/bus_connection.hpp"
#include "dbus/service_context.hpp"
#include "service/event_loop.hpp"

namespace loopd {

// The connection to the system bus, which may come after this service (early
// boot), and go and come again. Each time it is a new one, with new names of
// clients. Event loop's thread only.
class SystemBus {
 public:
  struct Hooks {
    std::function<void(const std::shared_ptr<BusConnection>&)> connected;
    std::function<void(int error_number)> named;  // 0: the service's name is ours
  };

  SystemBus(EventLoop& events, const ServiceParts& parts) : events_(events), parts_(parts) {}
  ~SystemBus();

  // Connects as soon as there is a bus, without waiting for it, and serves nobody yet. Throws
  // std::system_error where that can never work.
  void connect(Hooks hooks);

  // Serves on the connection, once there is one, and asks for the service's name.
  void serve();

  // Null while there is none.
  const std::shared_ptr<BusConnection>& connection() const { return connection_; }

  // Nothing: calls by name reach us, or never will. Until then there may be a bus
  // that waits for us with a call.
  std::optional<Clock::time_point> unsettled_since() const { return unsettled_since_; }

  // Clients that have called and are still on the bus.
  size_t client_count() const { return connection_ ? connection_->clients().size() : 0; }

  // Gives up the name, and stays away from buses that come after this one. Calls once when
  // nothing comes by the name any more: the bus says so, or has gone.
  void leave(std::function<void()> left);

  // Dispatches what has been read by now.
  void dispatch();

  // Sends what waits, at most until the deadline.
  void flush(Clock::time_point deadline);

 private:
  struct Unref {
    void operator()(sd_bus* bus) const { sd_bus_close_unref(bus); }
  };
  using Bus = std::unique_ptr<sd_bus, Unref>;

  static int on_connected(sd_bus_message* signal, void* self, sd_bus_error* error);
  static int on_disconnected(sd_bus_message* signal, void* self, sd_bus_error* error);

  Bus open();
  void start();
  void serve_if_ready();
  void drop();
  void have_left();

  EventLoop& events_;
  const ServiceParts& parts_;
  Hooks hooks_;
  Bus bus_;
  std::shared_ptr<BusConnection> connection_;
  std::optional<Clock::time_point> unsettled_since_ = Clock::now();
  // Between attempts: a bus that throws us out is not to be pestered. One that is not
  // there yet is waited for without attempts.
  Backoff delay_{std::chrono::milliseconds(100), std::chrono::seconds(10)};
  std::unique_ptr<Scheduler::Registration> retry_;
  bool serving_ = false;
  bool leaving_ = false;
  std::function<void()> left_;
};

}  // namespace loopd
