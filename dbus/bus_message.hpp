// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <systemd/sd-bus.h>

#include <memory>

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

struct MessageUnref {
  void operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }
};
using MessageReference = std::unique_ptr<sd_bus_message, MessageUnref>;

}  // namespace loopd
