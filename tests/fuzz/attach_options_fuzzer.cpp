// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Dictionaries of options, as they come over a connection: marshalled well, with
// keys, types and values of the bytes' choice, or the bytes as they are.
#include <array>
#include <string>

#include "dbus/names.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/option_bytes.hpp"
#include "tests/fuzz/service_in_process.hpp"
#include "tests/support/image.hpp"
#include "tests/support/message_bytes.hpp"

namespace loop::testing {
namespace {

struct Method {
  const char* object;
  const char* interface;
  const char* name;
  const char* first;  // type of the argument before the options
};
constexpr std::array methods{
    Method{loopd::root_path, loopd::manager_interface, "Attach", "h"},
    Method{loopd::root_path, loopd::manager_interface, "Probe", "h"},
    Method{loopd::root_path, loopd::manager_interface, "AttachPath", "s"},
    Method{"/org/example/Loop1/loop0", loopd::device_interface, "RemoveWithOptions", ""},
    Method{"/org/example/Loop1/loop0", loopd::device_interface, "ResizeWithOptions", ""},
};

void write_value(MessageWriter& body, const std::string& type, Bytes& bytes) {
  if (type == "s" || type == "o") return body.string(bytes.text());
  if (type == "g") return body.signature(bytes.text());
  if (type == "v") {
    body.signature("u");
    return body.u32(bytes.byte());
  }
  const size_t size = type == "y"                                 ? 1
                      : type == "n" || type == "q"                ? 2
                      : type == "x" || type == "t" || type == "d" ? 8
                                                                  : 4;
  body.align(size);
  std::string value = bytes.take(type == "b" || type == "h" ? 1 : size);
  value.resize(size);
  if (type[0] == 'a') value.assign(size, '\0');  // an empty array
  body.bytes += value;
}

void write_entry(MessageWriter& body, Bytes& bytes) {
  body.align(8);
  body.string(bytes.key());
  const std::string type = bytes.type();
  body.signature(type);
  write_value(body, type, bytes);
}

void write_dictionary(MessageWriter& body, Bytes bytes, bool marshalled) {
  const size_t length_at = body.begin_array(8);
  if (marshalled) {
    while (!bytes.empty()) write_entry(body, bytes);
  } else {
    body.bytes += bytes.take(UINT16_MAX);
  }
  body.end_array(length_at);
}

// A device that the changes can be meant for, and that goes with its peer.
std::string attach_with_lease() {
  MessageWriter body;
  body.u32(0);
  write_dictionary(body, Bytes(std::string_view("\x0B\x03\x01", 3)), true);  // "lease", "b", true
  return call_bytes({loopd::root_path, loopd::manager_interface, "Attach", {}, "ha{sv}"}, 1, body.bytes, 1);
}

void send_call(int socket, uint8_t choice, std::string_view options, int file) {
  const Method& method = methods[(choice & 0x7F) % methods.size()];
  const bool takes_file = *method.first == 'h';
  MessageWriter body;
  if (takes_file) body.u32(0);
  if (*method.first == 's') body.string("/image");
  write_dictionary(body, Bytes(options), (choice & 0x80) == 0);
  send_bytes(
      socket,
      call_bytes({method.object, method.interface, method.name, {}, std::string(method.first) + "a{sv}"}, 2,
                 body.bytes, takes_file ? 1 : 0),
      takes_file ? file : -1);
}

}  // namespace
}  // namespace loop::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loop::testing;
  static ServiceForInputs services;
  static const loop::UniqueFd file = memory_file(1 * mib);
  if (size == 0) return 0;
  ServiceInProcess& service = services.get();
  {
    const loop::UniqueFd socket = service.connect_authenticated();
    send_bytes(socket.get(), attach_with_lease(), file.get());
    service.settle_until([&service] { return service.kernel().bound_numbers().size() == 1; });
    send_call(socket.get(), data[0], as_text(data + 1, size - 1), file.get());
    service.settle();
  }
  services.input_ended();
  return 0;
}
