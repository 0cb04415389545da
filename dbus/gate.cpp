// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/gate.hpp"

#include <fcntl.h>
#include <sdbus-c++/sdbus-c++.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/unique_fd.hpp"
#include "dbus/method_table.hpp"
#include "dbus/names.hpp"
#include "dbus/object_path.hpp"
#include "dbus/reply_limit.hpp"

namespace loopd {
namespace {

// Members of the interfaces that sd-bus itself serves; with them a call may
// leave out the interface.
constexpr std::array<std::string_view, 7> standard_members{
    "Get", "GetAll", "Set", "Introspect", "Ping", "GetMachineId", "GetManagedObjects"};

// Of calls, for as long as it takes to find the links of thousands of devices, and of those one client's. (A
// peer, which is root, has the whole gate for itself.)
constexpr size_t most_waiting = 1024;
constexpr int most_waiting_of_one = 64;

std::string_view text(const char* string) { return string ? string : std::string_view(); }

bool is_known(std::string_view interface, std::string_view member) {
  if (find_method(interface, member) != nullptr) return true;
  if (interface.empty()) {
    return std::find(standard_members.begin(), standard_members.end(), member) != standard_members.end();
  }
  return !interface.starts_with(bus_name);
}

// Taking the call apart makes a copy of the descriptor, and where that fails answers by
// an error that is not the contract's. In between, in this thread, nothing is opened.
bool can_be_copied(int fd) { return static_cast<bool>(loop::UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3))); }

// The body's handle is an index into the descriptors that came along, and a
// client may write any number there.
// True: there is nothing to complain of.
bool check_descriptor(sd_bus_message* message) {
  if (!text(sd_bus_message_get_signature(message, 1)).starts_with('h')) return true;
  int fd = -1;
  const int r = sd_bus_message_read_basic(message, 'h', &fd);
  sd_bus_message_rewind(message, 1);
  if (r <= 0 || fd < 0) {
    sd_bus_reply_method_errorf(message, error_name::invalid_args,
                               "file: the message carries no file descriptor at the index that it names");
    return false;
  }
  if (can_be_copied(fd)) return true;
  const std::string reason = std::generic_category().message(errno);
  sd_bus_reply_method_errorf(message, error_name::limits_exceeded, "file: %s", reason.c_str());
  return false;
}

bool is_container(char type) {
  return type == SD_BUS_TYPE_ARRAY || type == SD_BUS_TYPE_VARIANT || type == SD_BUS_TYPE_STRUCT ||
         type == SD_BUS_TYPE_DICT_ENTRY;
}

// Up to the end of the container that was entered, or of the message. Negative: an errno.
// An array of numbers is passed over as a whole: it may have millions.
int read_all(sd_bus_message* message) {
  for (;;) {
    char type = 0;
    const char* contents = nullptr;
    int r = sd_bus_message_peek_type(message, &type, &contents);
    if (r <= 0) return r;
    if (!is_container(type)) {
      uint64_t value = 0;  // or a pointer: the largest that there is
      r = sd_bus_message_read_basic(message, type, &value);
    } else if (type == SD_BUS_TYPE_ARRAY && text("ynqiuxtdb").find(*contents) != std::string_view::npos) {
      r = sd_bus_message_skip(message, nullptr);
    } else {
      r = sd_bus_message_enter_container(message, type, contents);
      if (r >= 0) r = read_all(message);
      if (r >= 0) r = sd_bus_message_exit_container(message);
    }
    if (r < 0) return r;
  }
}

// The bus lets through what libsystemd does not take: texts with characters that Unicode has
// set apart, handles in a variant that name no descriptor. Taking such a call apart ends by an
// error that is not the contract's.
bool check_values(sd_bus_message* message) {
  const int r = read_all(message);
  sd_bus_message_rewind(message, 1);
  if (r >= 0) return true;
  sd_bus_reply_method_errorf(message, error_name::invalid_args,
                             "an argument is no valid text, or names no descriptor of the message");
  return false;
}

bool asks_for_all_objects(sd_bus_message* message) {
  const auto interface = text(sd_bus_message_get_interface(message));
  return text(sd_bus_message_get_member(message)) == "GetManagedObjects" &&
         (interface.empty() || interface == "org.freedesktop.DBus.ObjectManager") &&
         text(sd_bus_message_get_path(message)) == root_path;
}

bool has_signature(sd_bus_message* message, std::string_view signature) {
  return text(sd_bus_message_get_signature(message, 1)) == signature;
}

bool tells_symlinks(sd_bus_message* message) {
  if (asks_for_all_objects(message)) return has_signature(message, "");
  if (!parse_path(text(sd_bus_message_get_path(message)))) return false;
  const auto member = text(sd_bus_message_get_member(message));
  const char* interface = nullptr;
  const char* property = nullptr;
  bool tells = false;
  if (member == "GetAll" && has_signature(message, "s")) {
    tells = sd_bus_message_read(message, "s", &interface) > 0 &&
            (text(interface).empty() || text(interface) == device_interface);
  } else if (member == "Get" && has_signature(message, "ss")) {
    tells = sd_bus_message_read(message, "ss", &interface, &property) > 0 &&
            text(interface) == device_interface && text(property) == "Symlinks";
  }
  sd_bus_message_rewind(message, 1);
  return tells;
}

}  // namespace

int Gate::on_message(sd_bus_message* message, void* self, sd_bus_error*) {
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
  auto* gate = static_cast<Gate*>(self);
  if (!gate->hooks_.knows_symlinks() && tells_symlinks(message)) return gate->hold(message);
  if (asks_for_all_objects(message) && !gate->check_size(message)) return 1;
  return check_descriptor(message) && check_values(message) ? 0 : 1;
}

// Nothing is thrown into libsystemd.
bool Gate::check_size(sd_bus_message* message) const {
  try {
    const size_t bytes = hooks_.managed_size();
    if (bytes <= most_reply_bytes) return true;
    sd_bus_reply_method_errorf(message, error_name::limits_exceeded, "%s", too_large(bytes).c_str());
  } catch (const std::exception& error) {
    sd_bus_reply_method_errorf(message, error_name::failed, "%s", error.what());
  }
  return false;
}

bool Gate::has_room_for(std::string_view sender) const {
  if (waiting_.size() == most_waiting) return false;
  if (sender.empty()) return true;
  const auto of_sender =
      std::count_if(waiting_.begin(), waiting_.end(), [&](const MessageReference& message) {
        return text(sd_bus_message_get_sender(message.get())) == sender;
      });
  return of_sender < most_waiting_of_one;
}

// What a filter returns.
int Gate::hold(sd_bus_message* message) {
  if (sd_bus_message_get_expect_reply(message) == 0) return 1;
  if (!has_room_for(text(sd_bus_message_get_sender(message)))) {
    sd_bus_reply_method_errorf(message, error_name::limits_exceeded,
                               "the service has just started, and %zu calls wait already", waiting_.size());
    return 1;
  }
  try {
    waiting_.emplace_back();
  } catch (const std::bad_alloc&) {
    return -ENOMEM;  // sd-bus tells the caller
  }
  waiting_.back().reset(sd_bus_message_ref(message));
  return 1;
}

// Each passes this gate once more, and what is noted of a caller is noted again: of one that has left
// meanwhile nothing would ever undo it.
void Gate::let_in() {
  for (const MessageReference& message : std::exchange(waiting_, {})) {
    const auto sender = text(sd_bus_message_get_sender(message.get()));
    if (!sender.empty() && hooks_.has_left(std::string(sender))) continue;
    const int r = sd_bus_enqueue_for_read(bus_, message.get());
    if (r < 0) sd_bus_reply_method_errno(message.get(), r, nullptr);
  }
}

Gate::Gate(sd_bus* bus, Hooks hooks) : bus_(bus), hooks_(std::move(hooks)) {
  sd_bus_slot* slot = nullptr;
  const int r = sd_bus_add_filter(bus, &slot, on_message, this);
  slot_.reset(slot);
  if (r < 0) throw sdbus::createError(-r, "cannot filter the calls of a connection");
}

}  // namespace loopd
