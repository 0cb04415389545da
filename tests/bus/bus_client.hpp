// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A client of the service that knows of it what the contract says: sd-bus with
// plain values.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/unique_fd.hpp"
#include "tests/bus/child_process.hpp"

struct sd_bus;
struct sd_bus_message;
struct sd_bus_slot;

namespace bus_test {

inline constexpr const char* service_name = "org.example.Loop1";
inline constexpr const char* root_path = "/org/example/Loop1";
inline constexpr const char* manager_interface = "org.example.Loop1.Manager";
inline constexpr const char* device_interface = "org.example.Loop1";
inline constexpr const char* partition_interface = "org.example.Loop1.Partition";
inline constexpr const char* object_manager_interface = "org.freedesktop.DBus.ObjectManager";
inline constexpr const char* properties_interface = "org.freedesktop.DBus.Properties";

// Names of errors, by their last part.
inline constexpr const char* invalid_args = "org.freedesktop.DBus.Error.InvalidArgs";
inline constexpr const char* access_denied = "org.freedesktop.DBus.Error.AccessDenied";
inline constexpr const char* interactive_authorization_required =
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
inline constexpr const char* file_not_found = "org.freedesktop.DBus.Error.FileNotFound";
inline constexpr const char* unknown_object = "org.freedesktop.DBus.Error.UnknownObject";
inline constexpr const char* device_busy = "org.example.Loop1.Error.DeviceBusy";
inline constexpr const char* not_a_loop_device = "org.example.Loop1.Error.NotALoopDevice";
inline constexpr const char* not_attached = "org.example.Loop1.Error.NotAttached";
inline constexpr const char* not_writable = "org.example.Loop1.Error.NotWritable";
inline constexpr const char* stale = "org.example.Loop1.Error.Stale";
inline constexpr const char* would_truncate = "org.example.Loop1.Error.WouldTruncate";

// Any value that a message carries. A variant is the value in it.
struct Value {
  char type = 0;                         // of D-Bus; '{' a dictionary entry, '(' a structure, 'a' an array
  uint64_t number = 0;                   // integers, booleans
  std::string text;                      // strings, paths, signatures
  std::vector<Value> items;              // of containers
  std::string element;                   // 'a': signature of its items
  std::shared_ptr<loop::UniqueFd> file;  // 'h', received

  bool truth() const { return number != 0; }
  const Value* find(const std::string& key) const;  // in a dictionary
  const Value& at(const std::string& key) const;    // throws
  std::vector<std::string> texts() const;
  std::string bytes() const;  // of an ay
  bool operator==(const Value& other) const;
};
std::ostream& operator<<(std::ostream& out, const Value& value);

Value text(const std::string& value);
Value path(const std::string& value);
Value boolean(bool value);
Value u32(uint32_t value);
Value i32(int32_t value);
Value u64(uint64_t value);
Value handle(int fd);
Value structure(const std::vector<Value>& fields);

using Options = std::vector<std::pair<std::string, Value>>;  // may name a key twice
Value options(const Options& entries);

struct Reply {
  std::string error;    // empty: it is a result
  std::string message;  // of the error
  std::vector<Value> values;

  bool ok() const { return error.empty(); }
};
std::ostream& operator<<(std::ostream& out, const Reply& reply);

struct Call {
  std::string object;
  std::string interface;
  std::string member;
  std::vector<Value> arguments = {};
  bool interactive = false;  // ALLOW_INTERACTIVE_AUTHORIZATION
  std::string destination = service_name;
};

struct Signal {
  std::string object;
  std::string interface;
  std::string member;
  std::vector<Value> arguments;
};
std::ostream& operator<<(std::ostream& out, const Signal& signal);

// This thread's effective ids are another user's for as long as this lives.
class ActingAs {
 public:
  explicit ActingAs(uid_t uid);
  ActingAs(const ActingAs&) = delete;
  ActingAs& operator=(const ActingAs&) = delete;
  ~ActingAs();

 private:
  uid_t uid_;
};

class BusClient {
 public:
  // As another user: this thread's effective ids change while it connects.
  explicit BusClient(const std::string& address, uid_t uid = 0);
  BusClient(const BusClient&) = delete;
  BusClient& operator=(const BusClient&) = delete;
  ~BusClient();

  Reply call(const Call& call);

  // The answer appears in the pointer while this connection is processed.
  std::shared_ptr<std::optional<Reply>> start(const Call& call);

  // Records every signal of the service from now on, in order.
  void listen();
  const std::vector<Signal>& signals() const { return signals_; }
  void forget_signals() { signals_.clear(); }

  // Processes the bus until the condition holds; false: not before the deadline.
  bool wait_for(const std::function<bool()>& condition, milliseconds patience = long_enough);

  // Takes in what has arrived.
  void process();

  bool wait_for_name(const std::string& name, bool there = true);
  std::string unique_name() const;

  // For what has no word here; stays the client's.
  sd_bus* bus() const { return bus_.get(); }

  // What the contract's clients do.
  Reply manager(const std::string& member, std::vector<Value> arguments = {});
  Reply attach(int file, const Options& wishes = {}, bool interactive = false);
  Reply device(const std::string& object, const std::string& member, std::vector<Value> arguments = {},
               bool interactive = false);
  Reply remove(const std::string& object, const Options& wishes);
  Reply properties(const std::string& object, const std::string& interface = device_interface);
  Reply property(const std::string& object, const std::string& name,
                 const std::string& interface = device_interface);
  // By object, then interface, then property.
  Reply managed_objects();
  bool has_object(const std::string& object);

  size_t count_signals(const std::string& member, const std::string& first_argument) const;
  // The last that reported the object; null: none did.
  const Signal* find_signal(const std::string& member, const std::string& first_argument) const;
  // Latest value in a PropertiesChanged of the object.
  std::optional<Value> changed_property(const std::string& object, const std::string& name) const;

 private:
  struct Unref {
    void operator()(sd_bus* bus) const;
  };
  struct Pending;
  static int on_signal(sd_bus_message* message, void* self, void* error);
  static sd_bus_message* new_call(sd_bus* bus, const Call& call);

  std::unique_ptr<sd_bus, Unref> bus_;
  std::vector<Signal> signals_;
  std::vector<std::unique_ptr<Pending>> pending_;
};

// "/org/example/Loop1/loop3" → 3.
unsigned number_of(const std::string& object);
std::string object_of(unsigned number);
std::string node_of(unsigned number);

}  // namespace bus_test
