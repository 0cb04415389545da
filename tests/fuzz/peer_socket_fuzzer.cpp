// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The bytes that a peer of the private socket sends: all of them, or those after a
// good authentication, with a descriptor.
#include <string>

#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/service_in_process.hpp"
#include "tests/support/image.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loop::testing;
  static ServiceForInputs services;
  static const loop::UniqueFd file = memory_file(1 * mib);
  if (size == 0) return 0;
  const std::string bytes(as_text(data + 1, size - 1));
  ServiceInProcess& service = services.get();
  {
    const loop::UniqueFd socket = service.connect();
    if ((data[0] & 1) != 0) send_bytes(socket.get(), authentication);
    send_bytes(socket.get(), bytes, (data[0] & 2) != 0 ? file.get() : -1);
    service.settle();
  }
  services.input_ended();
  return 0;
}
