// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <systemd/sd-bus.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace loopd {

// sdbus-c++'s reading and writing of values, on a message that sd-bus itself handed
// out. Holds a reference to the message.
class BusMessage : public sdbus::PlainMessage {
 public:
  explicit BusMessage(sd_bus_message* message) : PlainMessage(message, any_connection()) {}

 private:
  // A message of sdbus-c++ counts references by way of a connection, whichever it is.
  static sdbus::internal::IConnection* any_connection() {
    static const Sample sample;
    return sample.connection();
  }

  struct Sample : sdbus::PlainMessage {
    Sample() : PlainMessage(sdbus::createPlainMessage()) {}
    sdbus::internal::IConnection* connection() const { return connection_; }
  };
};

// Appends a value, by its D-Bus type; negative: an errno. A list of all objects has tens of
// thousands of them, and a BusMessage for each would take a lock twice.
inline int append_value(sd_bus_message* message, bool value) {
  const int as_int = value ? 1 : 0;
  return sd_bus_message_append_basic(message, SD_BUS_TYPE_BOOLEAN, &as_int);
}
inline int append_value(sd_bus_message* message, uint32_t value) {
  return sd_bus_message_append_basic(message, SD_BUS_TYPE_UINT32, &value);
}
inline int append_value(sd_bus_message* message, uint64_t value) {
  return sd_bus_message_append_basic(message, SD_BUS_TYPE_UINT64, &value);
}
inline int append_value(sd_bus_message* message, const std::string& value) {
  return sd_bus_message_append_basic(message, SD_BUS_TYPE_STRING, value.c_str());
}
inline int append_value(sd_bus_message* message, const sdbus::ObjectPath& value) {
  return sd_bus_message_append_basic(message, SD_BUS_TYPE_OBJECT_PATH, value.c_str());
}
inline int append_value(sd_bus_message* message, const std::vector<uint8_t>& value) {
  return sd_bus_message_append_array(message, SD_BUS_TYPE_BYTE, value.data(), value.size());
}
template <typename Item>
int append_items(sd_bus_message* message, const char* type, const std::vector<Item>& items) {
  int r = sd_bus_message_open_container(message, SD_BUS_TYPE_ARRAY, type);
  for (size_t i = 0; r >= 0 && i < items.size(); ++i) r = append_value(message, items[i]);
  return r < 0 ? r : sd_bus_message_close_container(message);
}
inline int append_value(sd_bus_message* message, const std::vector<std::string>& value) {
  return append_items(message, "s", value);
}
inline int append_value(sd_bus_message* message, const std::vector<sdbus::ObjectPath>& value) {
  return append_items(message, "o", value);
}

struct MessageUnref {
  void operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }
};
using MessageReference = std::unique_ptr<sd_bus_message, MessageUnref>;

}  // namespace loopd
