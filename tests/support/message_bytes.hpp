// SPDX-License-Identifier: LGPL-2.1-or-later
//
// D-Bus messages byte by byte, little-endian: for those that no library would send.
#pragma once

#include <cstdint>
#include <string>

namespace loop::testing {

enum MessageField : uint8_t {
  object_field = 1,
  interface_field = 2,
  member_field = 3,
  error_field = 4,
  reply_serial_field = 5,
  destination_field = 6,
  signature_field = 8,
  descriptors_field = 9,
};

class MessageWriter {
 public:
  std::string bytes;

  void align(size_t boundary) {
    while (bytes.size() % boundary != 0) bytes += '\0';
  }
  void byte(uint8_t value) { bytes += static_cast<char>(value); }
  void u32(uint32_t value) {
    align(4);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void string(const std::string& value) {
    u32(static_cast<uint32_t>(value.size()));
    bytes += value;
    byte(0);
  }
  void signature(const std::string& value) {
    byte(static_cast<uint8_t>(value.size()));
    bytes += value;
    byte(0);
  }
  void field(MessageField which, const char* type) {
    align(8);
    byte(which);
    signature(type);
  }
};

// Where a call goes; what is empty is left out.
struct CallHeader {
  std::string object;
  std::string interface;
  std::string member;
  std::string destination = {};
  std::string signature = {};
};

// A method call as it goes over the socket. `descriptors`: how many its header speaks of.
std::string call_bytes(const CallHeader& header, uint32_t serial, const std::string& body,
                       uint32_t descriptors = 0);

}  // namespace loop::testing
