// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/bus_client.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cerrno>
#include <ostream>
#include <stdexcept>
#include <system_error>

namespace bus_test {
namespace {

int check(int returned, const char* what) {
  if (returned < 0) throw std::system_error(-returned, std::generic_category(), what);
  return returned;
}

using Message = std::unique_ptr<sd_bus_message, decltype([](sd_bus_message* m) { sd_bus_message_unref(m); })>;

std::string signature_of(const Value& value) {
  if (value.type == 'a') return "a" + value.element;
  if (value.type == '(') {
    std::string fields;
    for (const Value& field : value.items) fields += signature_of(field);
    return "(" + fields + ")";
  }
  return std::string(1, value.type);
}

void append(sd_bus_message* message, const Value& value) {
  switch (value.type) {
    case 's':
    case 'o':
    case 'g':
      check(sd_bus_message_append_basic(message, value.type, value.text.c_str()), "append");
      return;
    case 'b':
    case 'h':
    case 'i': {
      const int number = static_cast<int>(value.number);
      check(sd_bus_message_append_basic(message, value.type, &number), "append");
      return;
    }
    case 'u': {
      const auto number = static_cast<uint32_t>(value.number);
      check(sd_bus_message_append_basic(message, 'u', &number), "append");
      return;
    }
    case 't':
      check(sd_bus_message_append_basic(message, 't', &value.number), "append");
      return;
    case 'a':  // of a{sv}
      check(sd_bus_message_open_container(message, 'a', value.element.c_str()), "append");
      for (const Value& entry : value.items) {
        check(sd_bus_message_open_container(message, 'e', "sv"), "append");
        append(message, entry.items.at(0));
        check(sd_bus_message_open_container(message, 'v', signature_of(entry.items.at(1)).c_str()), "append");
        append(message, entry.items.at(1));
        check(sd_bus_message_close_container(message), "append");
        check(sd_bus_message_close_container(message), "append");
      }
      check(sd_bus_message_close_container(message), "append");
      return;
    case '(': {
      const std::string signature = signature_of(value);
      check(sd_bus_message_open_container(message, 'r', signature.substr(1, signature.size() - 2).c_str()),
            "append");
      for (const Value& field : value.items) append(message, field);
      check(sd_bus_message_close_container(message), "append");
      return;
    }
    default:
      throw std::logic_error("no such type");
  }
}

Value read_value(sd_bus_message* message);

std::vector<Value> read_values(sd_bus_message* message) {
  std::vector<Value> values;
  while (check(sd_bus_message_at_end(message, 0), "read") == 0) values.push_back(read_value(message));
  return values;
}

Value read_container(sd_bus_message* message, char type, const char* contents) {
  Value value;
  value.type = type == 'e' ? '{' : type == 'r' ? '(' : type;
  if (type == 'a') value.element = contents;
  check(sd_bus_message_enter_container(message, type, contents), "read");
  value.items = read_values(message);
  check(sd_bus_message_exit_container(message), "read");
  if (type == 'v') {
    Value inner = std::move(value.items.at(0));
    return inner;
  }
  return value;
}

Value read_value(sd_bus_message* message) {
  char type = 0;
  const char* contents = nullptr;
  check(sd_bus_message_peek_type(message, &type, &contents), "read");
  if (type == 'a' || type == 'v' || type == 'r' || type == 'e')
    return read_container(message, type, contents);
  Value value;
  value.type = type;
  if (type == 's' || type == 'o' || type == 'g') {
    const char* read = nullptr;
    check(sd_bus_message_read_basic(message, type, &read), "read");
    value.text = read;
    return value;
  }
  if (type == 'h') {
    int fd = -1;
    check(sd_bus_message_read_basic(message, type, &fd), "read");
    value.file = std::make_shared<loop::UniqueFd>(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    return value;
  }
  // Little-endian: a narrower integer fills the lower bytes.
  check(sd_bus_message_read_basic(message, type, &value.number), "read");
  return value;
}

Reply reply_of(sd_bus_message* message) {
  Reply reply;
  if (const sd_bus_error* error = sd_bus_message_get_error(message)) {
    reply.error = error->name;
    reply.message = error->message ? error->message : "";
    return reply;
  }
  reply.values = read_values(message);
  return reply;
}

}  // namespace

const Value* Value::find(const std::string& key) const {
  for (const Value& entry : items) {
    if (entry.type == '{' && entry.items.at(0).text == key) return &entry.items.at(1);
  }
  return nullptr;
}

const Value& Value::at(const std::string& key) const {
  if (const Value* found = find(key)) return *found;
  throw std::out_of_range("no " + key);
}

std::vector<std::string> Value::texts() const {
  std::vector<std::string> found;
  for (const Value& item : items) found.push_back(item.text);
  return found;
}

std::string Value::bytes() const {
  std::string found;
  for (const Value& item : items) found += static_cast<char>(item.number);
  return found;
}

bool Value::operator==(const Value& other) const {
  return type == other.type && number == other.number && text == other.text && items == other.items;
}

std::ostream& operator<<(std::ostream& out, const Value& value) {
  switch (value.type) {
    case 's':
    case 'o':
    case 'g':
      return out << '"' << value.text << '"';
    case 'a':
    case '(':
      out << '[';
      for (const Value& item : value.items) out << item << ' ';
      return out << ']';
    case '{':
      return out << value.items.at(0) << ": " << value.items.at(1);
    default:
      return out << value.type << ' ' << value.number;
  }
}

std::ostream& operator<<(std::ostream& out, const Reply& reply) {
  if (!reply.ok()) return out << reply.error << ": " << reply.message;
  for (const Value& value : reply.values) out << value << ' ';
  return out;
}

std::ostream& operator<<(std::ostream& out, const Signal& signal) {
  out << signal.object << ' ' << signal.member;
  for (const Value& value : signal.arguments) out << ' ' << value;
  return out;
}

Value text(const std::string& value) { return {.type = 's', .text = value}; }
Value path(const std::string& value) { return {.type = 'o', .text = value}; }
Value boolean(bool value) { return {.type = 'b', .number = value ? 1U : 0U}; }
Value u32(uint32_t value) { return {.type = 'u', .number = value}; }
Value i32(int32_t value) { return {.type = 'i', .number = static_cast<uint32_t>(value)}; }
Value u64(uint64_t value) { return {.type = 't', .number = value}; }
Value handle(int fd) { return {.type = 'h', .number = static_cast<uint32_t>(fd)}; }

Value structure(const std::vector<Value>& fields) { return {.type = '(', .items = fields}; }

Value options(const Options& entries) {
  Value dictionary{.type = 'a', .element = "{sv}"};
  for (const auto& [key, value] : entries)
    dictionary.items.push_back({.type = '{', .items = {text(key), value}});
  return dictionary;
}

struct BusClient::Pending {
  std::shared_ptr<std::optional<Reply>> reply = std::make_shared<std::optional<Reply>>();
  sd_bus_slot* slot = nullptr;
  ~Pending() { sd_bus_slot_unref(slot); }

  static int on_reply(sd_bus_message* message, void* self, sd_bus_error*) {
    *static_cast<Pending*>(self)->reply = reply_of(message);
    return 0;
  }
};

void BusClient::Unref::operator()(sd_bus* bus) const { sd_bus_close_unref(bus); }

// Raw calls: glibc's would change every thread, and none may lose the way back.
ActingAs::ActingAs(uid_t uid) : uid_(uid) {
  if (uid_ == 0) return;
  check(static_cast<int>(::syscall(SYS_setresgid, -1, uid_, -1)), "setresgid");
  check(static_cast<int>(::syscall(SYS_setresuid, -1, uid_, -1)), "setresuid");
}

ActingAs::~ActingAs() {
  if (uid_ == 0) return;
  ::syscall(SYS_setresuid, -1, 0, -1);
  ::syscall(SYS_setresgid, -1, 0, -1);
}

BusClient::BusClient(const std::string& address, uid_t uid) {
  sd_bus* bus = nullptr;
  check(sd_bus_new(&bus), "sd_bus_new");
  bus_.reset(bus);
  check(sd_bus_set_address(bus, address.c_str()), "address");
  check(sd_bus_set_bus_client(bus, 1), "bus client");
  check(sd_bus_negotiate_fds(bus, 1), "negotiate");
  // The bus takes the ids of the moment of connect().
  {
    const ActingAs user(uid);
    check(sd_bus_start(bus), "connecting to the bus");
  }
  const char* name = nullptr;
  check(sd_bus_get_unique_name(bus, &name), "Hello");
}

BusClient::~BusClient() { pending_.clear(); }

sd_bus_message* BusClient::new_call(sd_bus* bus, const Call& call) {
  sd_bus_message* message = nullptr;
  check(sd_bus_message_new_method_call(bus, &message, call.destination.c_str(), call.object.c_str(),
                                       call.interface.c_str(), call.member.c_str()),
        call.member.c_str());
  for (const Value& argument : call.arguments) append(message, argument);
  check(sd_bus_message_set_allow_interactive_authorization(message, call.interactive ? 1 : 0), "interactive");
  return message;
}

Reply BusClient::call(const Call& call) {
  const Message message(new_call(bus_.get(), call));
  sd_bus_error error = SD_BUS_ERROR_NULL;
  sd_bus_message* answer = nullptr;
  const int r = sd_bus_call(bus_.get(), message.get(), 0, &error, &answer);
  const Message keep(answer);
  Reply reply;
  if (r < 0) {
    reply.error = error.name ? error.name : "no reply";
    reply.message = error.message ? error.message : "";
    sd_bus_error_free(&error);
    return reply;
  }
  return reply_of(answer);
}

std::shared_ptr<std::optional<Reply>> BusClient::start(const Call& call) {
  const Message message(new_call(bus_.get(), call));
  auto pending = std::make_unique<Pending>();
  check(sd_bus_call_async(bus_.get(), &pending->slot, message.get(), &Pending::on_reply, pending.get(), 0),
        "call");
  check(sd_bus_flush(bus_.get()), "flush");
  pending_.push_back(std::move(pending));
  return pending_.back()->reply;
}

int BusClient::on_signal(sd_bus_message* message, void* self, void*) {
  static_cast<BusClient*>(self)->signals_.push_back(
      {sd_bus_message_get_path(message), sd_bus_message_get_interface(message),
       sd_bus_message_get_member(message), read_values(message)});
  return 0;
}

void BusClient::listen() {
  const auto handler = [](sd_bus_message* message, void* self, sd_bus_error*) {
    return on_signal(message, self, nullptr);
  };
  check(sd_bus_add_match(bus_.get(), nullptr, "type='signal',sender='org.example.Loop1'", handler, this),
        "match");
}

void BusClient::process() {
  while (check(sd_bus_process(bus_.get(), nullptr), "process") > 0) {
  }
}

bool BusClient::wait_for(const std::function<bool()>& condition, milliseconds patience) {
  const auto deadline = Clock::now() + patience;
  for (;;) {
    process();
    if (condition()) return true;
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    check(sd_bus_wait(bus_.get(), static_cast<uint64_t>(left.count())), "wait");
  }
}

bool BusClient::wait_for_name(const std::string& name, bool there) {
  bool changed = false;
  const auto handler = [](sd_bus_message*, void* flag, sd_bus_error*) {
    *static_cast<bool*>(flag) = true;
    return 0;
  };
  sd_bus_slot* slot = nullptr;
  const std::string match =
      "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" + name + "'";
  check(sd_bus_add_match(bus_.get(), &slot, match.c_str(), handler, &changed), "match");
  const auto is_there = [&] {
    const Reply reply = call({.object = "/org/freedesktop/DBus",
                              .interface = "org.freedesktop.DBus",
                              .member = "NameHasOwner",
                              .arguments = {text(name)},
                              .destination = "org.freedesktop.DBus"});
    return reply.ok() && reply.values.at(0).truth() == there;
  };
  bool right = is_there();
  while (!right && wait_for([&] { return changed; })) {
    changed = false;
    right = is_there();
  }
  sd_bus_slot_unref(slot);
  return right;
}

std::string BusClient::unique_name() const {
  const char* name = nullptr;
  check(sd_bus_get_unique_name(bus_.get(), &name), "name");
  return name;
}

Reply BusClient::manager(const std::string& member, std::vector<Value> arguments) {
  return call({.object = root_path,
               .interface = manager_interface,
               .member = member,
               .arguments = std::move(arguments)});
}

Reply BusClient::attach(int file, const Options& wishes, bool interactive) {
  return call({.object = root_path,
               .interface = manager_interface,
               .member = "Attach",
               .arguments = {handle(file), options(wishes)},
               .interactive = interactive});
}

Reply BusClient::device(const std::string& object, const std::string& member, std::vector<Value> arguments,
                        bool interactive) {
  return call({.object = object,
               .interface = device_interface,
               .member = member,
               .arguments = std::move(arguments),
               .interactive = interactive});
}

Reply BusClient::remove(const std::string& object, const Options& wishes) {
  return device(object, "RemoveWithOptions", {options(wishes)});
}

Reply BusClient::properties(const std::string& object, const std::string& interface) {
  return call({.object = object,
               .interface = properties_interface,
               .member = "GetAll",
               .arguments = {text(interface)}});
}

Reply BusClient::property(const std::string& object, const std::string& name, const std::string& interface) {
  return call({.object = object,
               .interface = properties_interface,
               .member = "Get",
               .arguments = {text(interface), text(name)}});
}

Reply BusClient::managed_objects() {
  return call({.object = root_path, .interface = object_manager_interface, .member = "GetManagedObjects"});
}

bool BusClient::has_object(const std::string& object) {
  const Reply reply = managed_objects();
  return reply.ok() && reply.values.at(0).find(object) != nullptr;
}

size_t BusClient::count_signals(const std::string& member, const std::string& first_argument) const {
  size_t count = 0;
  for (const Signal& signal : signals_) {
    if (signal.member == member && !signal.arguments.empty() && signal.arguments[0].text == first_argument)
      ++count;
  }
  return count;
}

const Signal* BusClient::find_signal(const std::string& member, const std::string& first_argument) const {
  for (auto signal = signals_.rbegin(); signal != signals_.rend(); ++signal) {
    if (signal->member == member && !signal->arguments.empty() &&
        signal->arguments[0].text == first_argument) {
      return &*signal;
    }
  }
  return nullptr;
}

std::optional<Value> BusClient::changed_property(const std::string& object, const std::string& name) const {
  for (auto signal = signals_.rbegin(); signal != signals_.rend(); ++signal) {
    if (signal->object != object || signal->member != "PropertiesChanged") continue;
    if (const Value* value = signal->arguments.at(1).find(name)) return *value;
  }
  return std::nullopt;
}

unsigned number_of(const std::string& object) {
  const std::string prefix = std::string(root_path) + "/loop";
  if (!object.starts_with(prefix)) throw std::invalid_argument(object);
  return static_cast<unsigned>(std::stoul(object.substr(prefix.size())));
}

std::string object_of(unsigned number) { return std::string(root_path) + "/loop" + std::to_string(number); }
std::string node_of(unsigned number) { return "/dev/loop" + std::to_string(number); }

}  // namespace bus_test
