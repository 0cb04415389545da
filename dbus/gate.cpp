// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/gate.hpp"

#include <sdbus-c++/sdbus-c++.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "dbus/method_table.hpp"
#include "dbus/names.hpp"

namespace loopd {
namespace {

// Members of the interfaces that sd-bus itself serves; with them a call may
// leave out the interface.
constexpr std::array<std::string_view, 7> standard_members{
    "Get", "GetAll", "Set", "Introspect", "Ping", "GetMachineId", "GetManagedObjects"};

std::string_view text(const char* string) { return string ? string : std::string_view(); }

bool is_known(std::string_view interface, std::string_view member) {
  if (find_method(interface, member) != nullptr) return true;
  if (interface.empty()) {
    return std::find(standard_members.begin(), standard_members.end(), member) != standard_members.end();
  }
  return !interface.starts_with(bus_name);
}

// The body's handle is an index into the descriptors that came along, and a
// client may write any number there.
bool has_its_descriptor(sd_bus_message* message) {
  if (!text(sd_bus_message_get_signature(message, 1)).starts_with('h')) return true;
  int fd = -1;
  const int r = sd_bus_message_read_basic(message, 'h', &fd);
  sd_bus_message_rewind(message, 1);
  return r > 0 && fd >= 0;
}

int check(sd_bus_message* message, void*, sd_bus_error*) {
  uint8_t type = 0;
  if (sd_bus_message_get_type(message, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL) return 0;
  if (!text(sd_bus_message_get_path(message)).starts_with(root_path)) return 0;
  const auto interface = text(sd_bus_message_get_interface(message));
  const auto member = text(sd_bus_message_get_member(message));
  if (!is_known(interface, member)) {
    sd_bus_reply_method_errorf(message, error_name::unknown_method, "%s has no method '%s'", bus_name,
                               std::string(member).c_str());
    return 1;
  }
  if (!has_its_descriptor(message)) {
    sd_bus_reply_method_errorf(message, error_name::invalid_args,
                               "file: the message carries no file descriptor at the index that it names");
    return 1;
  }
  return 0;
}

}  // namespace

Gate::Gate(sd_bus* bus) {
  if (const int r = sd_bus_add_filter(bus, &slot_, check, nullptr); r < 0) {
    throw sdbus::createError(-r, "cannot filter the calls of a connection");
  }
}

Gate::~Gate() { sd_bus_slot_unref(slot_); }

}  // namespace loopd
