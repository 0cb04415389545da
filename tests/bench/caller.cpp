// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bench/caller.hpp"

#include <systemd/sd-bus.h>

#include <stdexcept>
#include <system_error>
#include <utility>

namespace loopd_bench {
namespace {

constexpr auto patience = std::chrono::seconds(120);

// The bus lets one connection wait for 128 answers.
constexpr size_t calls_under_way = 120;

uint64_t microseconds(Duration duration) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(duration).count());
}

int check(int r, const char* what) {
  if (r < 0) throw std::system_error(-r, std::generic_category(), what);
  return r;
}

void throw_if_error(sd_bus_message* answer) {
  const sd_bus_error* error = sd_bus_message_get_error(answer);
  if (!error) return;
  throw std::runtime_error(std::string(error->name) + ": " + (error->message ? error->message : ""));
}

void append_true(const Message& message, const char* key) {
  check(sd_bus_message_append(message.get(), "{sv}", key, "b", 1), key);
}

// One of the calls that wait together.
struct Waiting {
  size_t place;
  size_t* under_way;
  const std::function<void(size_t, sd_bus_message*)>* each;
  std::string* failure;
  sd_bus_slot* slot = nullptr;
};

int on_answer(sd_bus_message* answer, void* data, sd_bus_error* /*error*/) {
  const auto* waiting = static_cast<Waiting*>(data);
  --*waiting->under_way;
  if (const sd_bus_error* error = sd_bus_message_get_error(answer)) {
    *waiting->failure = std::string(error->name) + ": " + (error->message ? error->message : "");
  } else if (*waiting->each) {
    (*waiting->each)(waiting->place, answer);
  }
  return 0;
}

}  // namespace

void Unref::operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }

Caller::Caller(const std::string& address, uid_t uid) : client_(address, uid) {}

Message Caller::new_call(const std::string& object, const char* interface, const char* member,
                         const char* destination) const {
  sd_bus_message* message = nullptr;
  check(
      sd_bus_message_new_method_call(client_.bus(), &message, destination, object.c_str(), interface, member),
      member);
  return Message(message);
}

Message Caller::new_attach(int file, bool partition_scan) const {
  Message message = new_call(bus_test::root_path, bus_test::manager_interface, "Attach");
  check(sd_bus_message_append(message.get(), "h", file), "file");
  check(sd_bus_message_open_container(message.get(), 'a', "{sv}"), "options");
  if (partition_scan) append_true(message, "partition-scan");
  check(sd_bus_message_close_container(message.get()), "options");
  return message;
}

Message Caller::new_remove(const std::string& object, bool keep_node) const {
  Message message = new_call(object, bus_test::device_interface, "RemoveWithOptions");
  check(sd_bus_message_open_container(message.get(), 'a', "{sv}"), "options");
  if (keep_node) append_true(message, "keep-node");
  check(sd_bus_message_close_container(message.get()), "options");
  return message;
}

Message Caller::call(const Message& message) const {
  sd_bus_error error = SD_BUS_ERROR_NULL;
  sd_bus_message* answer = nullptr;
  const int r = sd_bus_call(client_.bus(), message.get(), microseconds(patience), &error, &answer);
  if (r >= 0) return Message(answer);
  const std::string failure =
      std::string(error.name ? error.name : "failed") + ": " + (error.message ? error.message : "");
  sd_bus_error_free(&error);
  throw std::runtime_error(failure);
}

Duration Caller::time(const Message& message) const {
  const auto start = Clock::now();
  call(message);
  return Clock::now() - start;
}

void Caller::call_all(const std::vector<Message>& messages,
                      const std::function<void(size_t, sd_bus_message*)>& each) const {
  std::vector<Waiting> waiting(messages.size());
  size_t under_way = 0;
  std::string failure;
  for (size_t i = 0; i < messages.size(); ++i) {
    wait_until([&] { return under_way < calls_under_way; });
    waiting[i] = {.place = i, .under_way = &under_way, .each = &each, .failure = &failure};
    check(sd_bus_call_async(client_.bus(), &waiting[i].slot, messages[i].get(), on_answer, &waiting[i],
                            microseconds(patience)),
          "sd_bus_call_async");
    ++under_way;
  }
  wait_until([&] { return under_way == 0; });
  for (const Waiting& one : waiting) sd_bus_slot_unref(one.slot);
  if (!failure.empty()) throw std::runtime_error(failure);
}

int Caller::on_signal(sd_bus_message* message, void* handler, sd_bus_error* /*error*/) {
  (*static_cast<std::function<void(sd_bus_message*)>*>(handler))(message);
  return 0;
}

void Caller::subscribe(const std::string& rule, std::function<void(sd_bus_message*)> handler) {
  handlers_.push_back(std::make_unique<std::function<void(sd_bus_message*)>>(std::move(handler)));
  check(sd_bus_add_match(client_.bus(), nullptr, rule.c_str(), on_signal, handlers_.back().get()),
        "AddMatch");
}

void Caller::wait_until(const std::function<bool()>& condition) const {
  const auto deadline = Clock::now() + patience;
  while (!condition()) {
    if (check(sd_bus_process(client_.bus(), nullptr), "sd_bus_process") > 0) continue;
    if (Clock::now() >= deadline) throw std::runtime_error("waited in vain");
    check(sd_bus_wait(client_.bus(), microseconds(std::chrono::milliseconds(100))), "sd_bus_wait");
  }
}

std::string path_in(sd_bus_message* answer) {
  throw_if_error(answer);
  const char* path = nullptr;
  check(sd_bus_message_read(answer, "o", &path), "path");
  return path;
}

std::string path_in(const Message& answer) { return path_in(answer.get()); }

}  // namespace loopd_bench
