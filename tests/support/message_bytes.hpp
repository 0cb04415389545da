// SPDX-License-Identifier: LGPL-2.1-or-later
//
// D-Bus messages byte by byte, little-endian: for those that no library would send.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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
  // Any type of so many bytes.
  void number(uint64_t value, size_t size) {
    align(size);
    bytes.append(reinterpret_cast<const char*>(&value), size);
  }
  void u32(uint32_t value) { number(value, sizeof value); }
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

  // An array: what is written between these two. `alignment`: of its elements. Arrays in it
  // end before it does.
  size_t begin_array(size_t alignment) {
    u32(0);
    const size_t length_at = bytes.size() - sizeof(uint32_t);
    align(alignment);
    array_starts_.push_back(bytes.size());
    return length_at;
  }
  void end_array(size_t length_at) {
    const auto length = static_cast<uint32_t>(bytes.size() - array_starts_.back());
    array_starts_.pop_back();
    bytes.replace(length_at, sizeof length, reinterpret_cast<const char*>(&length), sizeof length);
  }

 private:
  std::vector<size_t> array_starts_;
};

enum MessageType : uint8_t { method_call = 1, method_return = 2, error_reply = 3, signal_message = 4 };

// Where a call goes; what is empty or zero is left out.
struct CallHeader {
  std::string object;
  std::string interface;
  std::string member;
  std::string destination = {};
  std::string signature = {};
  MessageType type = method_call;
  uint8_t flags = 0;
  uint32_t reply_serial = 0;
};

// A method call, or another message, as it goes over the socket. `descriptors`: how many its header speaks
// of.
std::string call_bytes(const CallHeader& header, uint32_t serial, const std::string& body,
                       uint32_t descriptors = 0);

}  // namespace loop::testing
