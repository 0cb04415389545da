// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the verbs of loopctl share.
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "dbus/loop1_proxy.h"

namespace loopctl {

inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;

// One verb: its part of the help, and what it does. `run` gets the arguments
// behind the verb; argv[0] is for getopt's messages. Returns the exit code;
// throws UsageError, Failure or sdbus::Error.
struct Verb {
  const char* name;
  const char* arguments;
  const char* summary;
  const char* options;  // lines of the help; empty for none
  int (*run)(int argc, char** argv);
};

extern const Verb attach_verb;
extern const Verb list_verb;
extern const Verb monitor_verb;
extern const Verb remove_verb;
extern const Verb resize_verb;

// The command line makes no sense.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
  UsageError() : runtime_error("") {}  // getopt has said what is wrong
};

// "What: why".
struct Failure : std::runtime_error {
  Failure(const std::string& what, const std::string& why) : runtime_error(what + ": " + why) {}
  Failure(const std::string& what, int error_number);
};

// The system bus. Where a person is at the terminal, polkit may ask them, and
// calls wait for the answer. `patience` is how long the service itself may take.
std::unique_ptr<sdbus::IConnection> connect_to_bus(
    std::chrono::microseconds patience = std::chrono::seconds(25));

// For calls; signals are not listened to.
class Manager final
    : public sdbus::ProxyInterfaces<org::example::Loop1::Manager_proxy, sdbus::ObjectManager_proxy> {
 public:
  explicit Manager(sdbus::IConnection& connection);

 private:
  using Properties = std::map<sdbus::PropertyName, sdbus::Variant>;
  void onInterfacesAdded(const sdbus::ObjectPath&,
                         const std::map<sdbus::InterfaceName, Properties>&) override {}
  void onInterfacesRemoved(const sdbus::ObjectPath&, const std::vector<sdbus::InterfaceName>&) override {}
};

class Device final : public sdbus::ProxyInterfaces<org::example::Loop1_proxy> {
 public:
  Device(sdbus::IConnection& connection, const sdbus::ObjectPath& path);

 private:
  void onPartitionAdded(const sdbus::ObjectPath&, const std::string&, const uint32_t&) override {}
  void onPartitionRemoved(const sdbus::ObjectPath&, const std::string&, const uint32_t&) override {}
};

// "/dev/loop3", "loop3" or "3" as /dev/loop3. A partition is none: what is done
// to a device is done to all of it. Throws UsageError.
std::string device_node(const std::string& argument);

// Asks the service for the node's object.
sdbus::ObjectPath find_device(sdbus::IConnection& connection, const std::string& node);

// "/org/example/Loop1/loop3/p1" as /dev/loop3p1.
std::string node_of_object(const std::string& object);

// Takes the arguments of a verb that has no options. Throws UsageError.
std::vector<std::string> arguments_only(int argc, char** argv);

// A whole number; throws UsageError naming the option.
uint64_t parse_number(const std::string& option, const std::string& text, uint64_t largest);

// Bytes, also with a suffix: 4096, 512K, 10MiB, 2G (powers of 1024).
uint64_t parse_size(const std::string& option, const std::string& text);

// "64M", "1.5G", "513B".
std::string human_size(uint64_t bytes);

// Control characters as \xNN: names of files come from anybody, and must not
// break a table or speak to the terminal.
std::string printable(std::string_view text);

}  // namespace loopctl
