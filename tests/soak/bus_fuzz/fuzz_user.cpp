// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/bus_fuzz/fuzz_user.hpp"

#include <algorithm>
#include <cstring>
#include <exception>

namespace soak {
namespace {

constexpr size_t most_waiting = 4;  // calls of a connection
constexpr uint64_t life = 150;      // calls of a connection, about

// Not the service alone is to have been slow by then.
constexpr bus_test::milliseconds patience{120'000};

bool is_for_everybody(const std::string& interface, const std::string& member) {
  static const std::set<std::string> members{"GetDevice", "FindByFile", "ListDevices"};
  return interface.starts_with("org.freedesktop.DBus.") || members.contains(member);
}

}  // namespace

const std::vector<std::string>& error_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> found;
    for (const char* name : {"InvalidArgs", "AccessDenied", "InteractiveAuthorizationRequired",
                             "LimitsExceeded", "FileNotFound", "NotSupported", "Timeout", "UnknownMethod",
                             "UnknownObject", "UnknownInterface", "UnknownProperty", "PropertyReadOnly"}) {
      found.push_back(std::string("org.freedesktop.DBus.Error.") + name);
    }
    for (const char* name : {"DeviceBusy", "NotALoopDevice", "NotAttached", "NotWritable", "Overlap", "Stale",
                             "WouldTruncate", "NoFreeDevice", "Failed"}) {
      found.push_back(std::string("org.example.Loop1.Error.") + name);
    }
    return found;
  }();
  return names;
}

FuzzUser::FuzzUser(const Setting& setting, const Territory& territory, const Interface& interface,
                   FuzzReport& report)
    : setting_(setting),
      interface_(interface),
      report_(report),
      chance_(setting.seed, setting.whose),
      files_(territory),
      maker_(chance_, territory, interface, files_, {.always_numbered = setting.uid == 0}) {
  for (const std::string& address : setting.addresses) connections_.push_back({.address = address});
}

void FuzzUser::run() {
  for (uint64_t made = 0; made < setting_.calls && report_.findings < 20; ++made) {
    call(connections_[chance_.below(connections_.size())]);
    ++report_.calls;
  }
  for (Connection& connection : connections_) {
    while (!connection.waiting.empty() && take_answer(connection)) {
    }
    connection.client.reset();
  }
}

void FuzzUser::call(Connection& connection) try {
  if (!connection.client || chance_.one_in(life)) {
    drop(connection);
    connection.client = std::make_unique<bus_test::RawClient>(connection.address);
    ++report_.connections;
  }
  while (connection.waiting.size() >= most_waiting && take_answer(connection)) {
  }
  const uint32_t serial = connection.client->next_serial();
  FuzzCall call = maker_.make(serial, setting_.peers.contains(connection.address));
  if (call.method >= 0) ++report_.called[static_cast<size_t>(call.method)];
  const std::string bytes = std::move(call.bytes);
  const std::vector<int> files = std::move(call.files);
  const bool is_broken = call.is_broken;
  if (call.is_answered) {
    connection.waiting.emplace(serial, std::move(call));
  } else {
    connection.unasked.insert(serial);
  }
  if (is_broken) {
    ++report_.broken;
    try {
      connection.client->send(bytes, files);
    } catch (const std::exception&) {
      // It may hang up before it has read all.
    }
    drop(connection);
  } else {
    connection.client->send(bytes, files);
  }
  files_.forget();
} catch (const std::exception& error) {
  std::string calls;
  for (const auto& [serial, waiting] : connection.waiting) calls += " " + waiting.member;
  find(std::string(error.what()) + " after" + calls);
  drop(connection);
}

void FuzzUser::drop(Connection& connection) {
  report_.dropped += connection.waiting.size();
  connection.waiting.clear();
  connection.unasked.clear();
  connection.client.reset();
}

bool FuzzUser::take_answer(Connection& connection) {
  const auto answer = connection.client->receive(patience);
  if (!answer) {
    std::string calls;
    for (const auto& [serial, waiting] : connection.waiting) calls += " " + waiting.member;
    find("no answer to any of" + calls);
    drop(connection);
    return false;
  }
  const auto call = connection.waiting.find(answer->serial);
  if (call != connection.waiting.end()) {
    ++report_.answers;
    judge(call->second, answer->reply);
    connection.waiting.erase(call);
  } else if (!connection.unasked.contains(answer->serial)) {
    find("a second answer: " + answer->reply.error + " " + answer->reply.message);
  }
  return true;
}

void FuzzUser::judge(const FuzzCall& call, const bus_test::Reply& reply) {
  if (!reply.ok()) {
    const auto& names = error_names();
    const auto name = std::find(names.begin(), names.end(), reply.error);
    if (name == names.end()) return find(call.member + ": " + reply.error + ": " + reply.message);
    const auto index = static_cast<size_t>(name - names.begin());
    ++report_.errors[index];
    auto& example = report_.examples[index];
    const std::string text = call.member + ": " + reply.message;
    example[text.copy(example.data(), example.size() - 1)] = '\0';
    return;
  }
  if (call.method < 0) return;
  ++report_.succeeded[static_cast<size_t>(call.method)];
  const Method& method = interface_.methods[static_cast<size_t>(call.method)];
  if (setting_.may_nothing && !is_for_everybody(method.interface, method.name)) {
    find("allowed to somebody who may not: " + method.text());
  }
}

void FuzzUser::find(const std::string& what) {
  ++report_.findings;
  const size_t used = ::strnlen(report_.text.data(), report_.text.size());
  const std::string line = "user " + std::to_string(setting_.uid) + ": " + what.substr(0, 500) + "\n";
  if (used + line.size() < report_.text.size()) line.copy(report_.text.data() + used, line.size());
}

}  // namespace soak
