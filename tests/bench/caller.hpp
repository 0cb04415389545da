// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A client of a bus that costs as little as a client can: sd-bus, and answers that
// are looked into only where something is wanted of them.
#pragma once

#include <sys/types.h>
#include <systemd/sd-bus.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/measurement.hpp"
#include "tests/bus/bus_client.hpp"

namespace loopd_bench {

struct Unref {
  void operator()(sd_bus_message* message) const;
};
using Message = std::unique_ptr<sd_bus_message, Unref>;

// Every failure, also an error as answer, throws std::runtime_error: a figure of
// what did not work is none.
class Caller {
 public:
  explicit Caller(const std::string& address, uid_t uid = 0);

  // Messages to the service. Without arguments where signature is empty.
  Message new_call(const std::string& object, const char* interface, const char* member,
                   const char* destination = bus_test::service_name) const;
  Message new_attach(int file, bool partition_scan = false) const;
  Message new_remove(const std::string& object, bool keep_node) const;

  Message call(const Message& message) const;
  Duration time(const Message& message) const;  // of the call, to its answer

  // Sends all of them, as many at once as the bus allows, and waits for every answer. `each` is told of
  // answers as they come, with the call's place in the list.
  void call_all(const std::vector<Message>& messages,
                const std::function<void(size_t, sd_bus_message*)>& each = {}) const;

  // Told of each signal that matches, while wait_until() runs.
  void subscribe(const std::string& rule, std::function<void(sd_bus_message*)> handler);
  void wait_until(const std::function<bool()>& condition) const;

  bus_test::BusClient& client() { return client_; }

 private:
  static int on_signal(sd_bus_message* message, void* handler, sd_bus_error* error);

  bus_test::BusClient client_;
  std::vector<std::unique_ptr<std::function<void(sd_bus_message*)>>> handlers_;
};

// What an answer consists of: one object path.
std::string path_in(const Message& answer);
std::string path_in(sd_bus_message* answer);

}  // namespace loopd_bench
