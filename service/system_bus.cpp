// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/system_bus.hpp"

#include <cstdlib>
#include <system_error>
#include <utility>

#include "service/log.hpp"
#include "service/system_error.hpp"

namespace loopd {
namespace {

using namespace std::chrono_literals;

constexpr const char* default_address = "unix:path=/run/dbus/system_bus_socket";

// What sd-bus itself says of a connection.
int match_local(sd_bus* bus, const char* member, sd_bus_message_handler_t handler, void* self) {
  constexpr const char* local = "org.freedesktop.DBus.Local";
  return sd_bus_match_signal_async(bus, nullptr, local, nullptr, local, member, handler, nullptr, self);
}

}  // namespace

SystemBus::~SystemBus() {
  if (bus_) sd_bus_detach_event(bus_.get());
}

void SystemBus::connect(Hooks hooks) {
  hooks_ = std::move(hooks);
  start();
}

void SystemBus::start() {
  bus_ = open();
  check(sd_bus_start(bus_.get()), "cannot connect to the system bus");
}

// libsystemd's own attachment to the event loop: sdbus-c++'s throws out of its C
// callback when the connection breaks.
SystemBus::Bus SystemBus::open() {
  constexpr const char* what = "cannot prepare the connection to the system bus";
  const char* address = std::getenv("DBUS_SYSTEM_BUS_ADDRESS");
  sd_bus* made = nullptr;
  check(sd_bus_new(&made), what);
  Bus bus(made);
  check(sd_bus_set_description(made, "system"), what);
  check(sd_bus_set_address(made, address ? address : default_address), what);
  check(sd_bus_set_bus_client(made, 1), what);
  check(sd_bus_set_watch_bind(made, 1), what);
  check(sd_bus_set_connected_signal(made, 1), what);
  check(match_local(made, "Connected", on_connected, this), what);
  check(match_local(made, "Disconnected", on_disconnected, this), what);
  check(sd_bus_attach_event(made, events_.handle(), SD_EVENT_PRIORITY_NORMAL), what);
  return bus;
}

// Not from within the dispatch of the very bus.
int SystemBus::on_connected(sd_bus_message* signal, void* self, sd_bus_error*) {
  auto* system_bus = static_cast<SystemBus*>(self);
  sd_bus* bus = sd_bus_message_get_bus(signal);
  system_bus->events_.post([system_bus, bus] {
    if (system_bus->bus_.get() == bus) system_bus->serve_if_ready();
  });
  return 0;
}

int SystemBus::on_disconnected(sd_bus_message* signal, void* self, sd_bus_error*) {
  auto* system_bus = static_cast<SystemBus*>(self);
  sd_bus* bus = sd_bus_message_get_bus(signal);
  system_bus->events_.post([system_bus, bus] {
    if (system_bus->bus_.get() == bus) system_bus->drop();
  });
  return 0;
}

void SystemBus::serve() {
  serving_ = true;
  serve_if_ready();
}

void SystemBus::serve_if_ready() {
  if (!serving_ || leaving_ || connection_ || !bus_ || sd_bus_is_ready(bus_.get()) <= 0) return;
  try {
    connection_ = BusConnection::make(sd_bus_ref(bus_.get()), parts_);
  } catch (const sdbus::Error& error) {
    log::error("cannot serve the system bus: " + error.getMessage());
    return drop();
  }
  delay_.reset();
  hooks_.connected(connection_);
  connection_->request_name([this](int error) {
    unsettled_since_.reset();
    hooks_.named(error);
  });
}

// Calls under way keep their connection until they are done; the next one is made
// anew.
void SystemBus::drop() {
  if (connection_ && !leaving_) log::warning("the system bus is gone, waiting for it to come back");
  connection_.reset();
  unsettled_since_ = Clock::now();
  sd_bus_detach_event(bus_.get());
  bus_.reset();
  if (leaving_) return have_left();
  retry_ = events_.at(Clock::now() + delay_.next(), [this] {
    try {
      start();
    } catch (const std::system_error& error) {
      log::error(error.what());
      drop();
    }
  });
}

void SystemBus::leave(std::function<void()> left) {
  leaving_ = true;
  left_ = std::move(left);
  retry_.reset();
  if (!connection_) return have_left();
  connection_->release_name([this] { have_left(); });
}

void SystemBus::have_left() {
  if (const auto left = std::exchange(left_, nullptr)) left();
}

void SystemBus::dispatch() {
  uint64_t calls = 0;
  if (!connection_ || sd_bus_get_n_queued_read(bus_.get(), &calls) < 0) return;
  while (calls-- > 0 && sd_bus_process(bus_.get(), nullptr) > 0) {
  }
}

void SystemBus::flush(Clock::time_point deadline) {
  uint64_t waiting = 0;
  while (connection_ && sd_bus_get_n_queued_write(bus_.get(), &waiting) >= 0 && waiting > 0) {
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(deadline - Clock::now());
    if (left <= 0us || sd_bus_wait(bus_.get(), static_cast<uint64_t>(left.count())) < 0) return;
    if (sd_bus_process(bus_.get(), nullptr) < 0) return;
  }
}

}  // namespace loopd
