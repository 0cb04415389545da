// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/message_bytes.hpp"

namespace loop::testing {
namespace {

constexpr uint8_t protocol_version = 1;

void write_field(MessageWriter& fields, MessageField which, const char* type, const std::string& value) {
  if (value.empty()) return;
  fields.field(which, type);
  if (*type == 'g') {
    fields.signature(value);
  } else {
    fields.string(value);
  }
}

}  // namespace

std::string call_bytes(const CallHeader& header, uint32_t serial, const std::string& body,
                       uint32_t descriptors) {
  MessageWriter fields;
  write_field(fields, object_field, "o", header.object);
  write_field(fields, interface_field, "s", header.interface);
  write_field(fields, member_field, "s", header.member);
  write_field(fields, destination_field, "s", header.destination);
  write_field(fields, signature_field, "g", header.signature);
  if (header.reply_serial != 0) {
    fields.field(reply_serial_field, "u");
    fields.u32(header.reply_serial);
  }
  if (descriptors != 0) {
    fields.field(descriptors_field, "u");
    fields.u32(descriptors);
  }
  MessageWriter message;
  message.byte('l');
  message.byte(header.type);
  message.byte(header.flags);
  message.byte(protocol_version);
  message.u32(static_cast<uint32_t>(body.size()));
  message.u32(serial);
  message.u32(static_cast<uint32_t>(fields.bytes.size()));
  message.bytes += fields.bytes;
  message.align(8);
  return message.bytes + body;
}

}  // namespace loop::testing
