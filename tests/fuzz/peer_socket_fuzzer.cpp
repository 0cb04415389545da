// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The bytes that a peer of the private socket sends: all of them, or those after a
// good authentication, with a descriptor.
#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/service_in_process.hpp"
#include "tests/support/image.hpp"

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if __has_feature(address_sanitizer)
#include <sanitizer/lsan_interface.h>
#endif

// What the input's first byte says.
enum : unsigned { authenticated = 1, with_descriptor = 2, lengths_as_they_are = 0xF0 };

namespace loop::testing {
namespace {

struct Header {
  char order;
  uint8_t type, flags, version;
  uint32_t body, serial, fields;
};
static_assert(sizeof(Header) == 16);

// Up to here a message is waited for as one of 128 MiB is, which takes a thousand
// times as long to make room for.
constexpr uint32_t length_mask = 0xFFFF;

uint32_t cut(uint32_t& length, bool swapped) {
  const uint32_t value = (swapped ? __builtin_bswap32(length) : length) & length_mask;
  length = swapped ? __builtin_bswap32(value) : value;
  return value;
}

// Takes the high bits off the lengths of the messages that begin at `at`, one behind the other.
void cut_lengths(std::string& bytes, size_t at) {
  while (at < bytes.size() && bytes.size() - at >= sizeof(Header)) {
    Header header;
    std::memcpy(&header, bytes.data() + at, sizeof header);
    const bool swapped = header.order == 'B';
    const size_t fields = cut(header.fields, swapped), body = cut(header.body, swapped);
    std::memcpy(bytes.data() + at, &header, sizeof header);
    at += sizeof header + (fields + 7) / 8 * 8 + body;
  }
}

// Where messages begin in what a peer says of itself; the end if none do.
size_t end_of_authentication(const std::string& bytes) {
  constexpr std::string_view last = "BEGIN\r\n";
  return std::min(bytes.find(last), bytes.size() - std::min(bytes.size(), last.size())) + last.size();
}

// While it lives, what this thread allocates is no leak if it is lost.
#if __has_feature(address_sanitizer)
using LeaksAllowed = __lsan::ScopedDisabler;
#else
struct LeaksAllowed {};
#endif

}  // namespace
}  // namespace loop::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loop::testing;
  static ServiceForInputs services;
  static const loop::UniqueFd file = memory_file(1 * mib);
  if (size == 0) return 0;
  const bool speaks = (data[0] & authenticated) != 0, gives = (data[0] & with_descriptor) != 0;
  std::string bytes(as_text(data + 1, size - 1));
  if ((data[0] & lengths_as_they_are) != lengths_as_they_are) {
    cut_lengths(bytes, speaks ? 0 : end_of_authentication(bytes));
  }
  ServiceInProcess& service = services.get();
  // With the descriptors libsystemd forgets the array that they are in.
  std::optional<LeaksAllowed> of_libsystemd;
  if (gives) of_libsystemd.emplace();
  {
    const loop::UniqueFd socket = speaks ? service.connect_authenticated() : service.connect();
    send_bytes(socket.get(), bytes, gives ? file.get() : -1);
    service.settle();
  }
  services.input_ended(gives ? 1 : 0);
  return 0;
}
