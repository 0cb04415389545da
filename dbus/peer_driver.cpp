// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/peer_driver.hpp"

#include <sdbus-c++/sdbus-c++.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "dbus/names.hpp"

namespace loopd {
namespace {

constexpr const char* driver_path = "/org/freedesktop/DBus";
constexpr const char* driver_interface = "org.freedesktop.DBus";

// Clients compare a signal's sender with the owner of the name.
constexpr const char* own_unique_name = ":1.0";

constexpr uint32_t already_running = 2;  // StartServiceByName's reply

bool is_ours(std::string_view name) { return name == bus_name || name == own_unique_name; }

int refuse_name(sd_bus_error* error, const char* name) {
  return sd_bus_error_setf(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                           "'%s' has no owner: this is a private connection to %s", name, bus_name);
}

}  // namespace

const sd_bus_vtable PeerDriver::vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("Hello", "", "s", hello, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("AddMatch", "s", "", accept_rule, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("RemoveMatch", "s", "", accept_rule, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("GetNameOwner", "s", "s", get_name_owner, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("NameHasOwner", "s", "b", name_has_owner, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("StartServiceByName", "su", "u", start_service, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("GetConnectionUnixUser", "s", "u", get_unix_user, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

PeerDriver::PeerDriver(sd_bus* bus, uint64_t peer_number, std::function<void()> greeted)
    : peer_name_(":1." + std::to_string(peer_number)), greeted_(std::move(greeted)) {
  int r = sd_bus_add_object_vtable(bus, &objects_, driver_path, driver_interface, vtable, this);
  if (r >= 0) r = sd_bus_add_filter(bus, &filter_, on_message, this);
  if (r < 0) throw sdbus::createError(-r, "cannot serve a private connection");
}

PeerDriver::~PeerDriver() {
  sd_bus_slot_unref(filter_);
  sd_bus_slot_unref(objects_);
}

void PeerDriver::greet() {
  if (const auto greeted = std::exchange(greeted_, nullptr)) greeted();
}

int PeerDriver::on_message(sd_bus_message* message, void* self, sd_bus_error*) {
  if (sd_bus_message_is_method_call(message, driver_interface, "Hello") <= 0) {
    static_cast<PeerDriver*>(self)->greet();
  }
  return 0;
}

int PeerDriver::set_sender(sd_bus* bus) { return sd_bus_set_sender(bus, own_unique_name); }

int PeerDriver::hello(sd_bus_message* call, void* self, sd_bus_error*) {
  auto* driver = static_cast<PeerDriver*>(self);
  const int r = sd_bus_reply_method_return(call, "s", driver->peer_name_.c_str());
  driver->greet();
  return r;
}

int PeerDriver::accept_rule(sd_bus_message* call, void*, sd_bus_error*) {
  return sd_bus_reply_method_return(call, nullptr);
}

int PeerDriver::get_name_owner(sd_bus_message* call, void*, sd_bus_error* error) {
  const char* name = nullptr;
  if (const int r = sd_bus_message_read(call, "s", &name); r < 0) return r;
  if (!is_ours(name)) return refuse_name(error, name);
  return sd_bus_reply_method_return(call, "s", own_unique_name);
}

int PeerDriver::name_has_owner(sd_bus_message* call, void*, sd_bus_error*) {
  const char* name = nullptr;
  if (const int r = sd_bus_message_read(call, "s", &name); r < 0) return r;
  return sd_bus_reply_method_return(call, "b", static_cast<int>(is_ours(name)));
}

int PeerDriver::start_service(sd_bus_message* call, void*, sd_bus_error* error) {
  const char* name = nullptr;
  if (const int r = sd_bus_message_read(call, "s", &name); r < 0) return r;
  if (!is_ours(name)) return refuse_name(error, name);
  return sd_bus_reply_method_return(call, "u", already_running);
}

int PeerDriver::get_unix_user(sd_bus_message* call, void*, sd_bus_error* error) {
  const char* name = nullptr;
  if (const int r = sd_bus_message_read(call, "s", &name); r < 0) return r;
  if (!is_ours(name)) return refuse_name(error, name);
  return sd_bus_reply_method_return(call, "u", static_cast<uint32_t>(::geteuid()));
}

}  // namespace loopd
