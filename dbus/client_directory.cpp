// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/client_directory.hpp"

#include <optional>
#include <utility>

#include "dbus/errors.hpp"
#include "dbus/one_shot.hpp"

namespace loopd {
namespace {

const sdbus::ServiceName bus_service{"org.freedesktop.DBus"};
const sdbus::ObjectPath bus_object{"/org/freedesktop/DBus"};

// One rule for all: the bus limits the rules of a connection to some hundreds,
// and there may be as many clients. arg2 is the new owner: none.
constexpr const char* departure_rule =
    "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
    "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''";

}  // namespace

ClientDirectory::ClientDirectory(sdbus::IConnection& connection, sd_bus* bus)
    : connection_(connection), bus_(sdbus::createProxy(connection, bus_service, bus_object)) {
  sd_id128_t id;
  char text[SD_ID128_STRING_MAX];
  if (sd_bus_get_bus_id(bus, &id) >= 0) bus_id_ = sd_id128_to_string(id, text);
}

void ClientDirectory::follow_departures() {
  if (departures_) return;
  auto departed = [this](sdbus::Message message) {
    std::string name;
    message >> name;
    if (clients_.erase(name) == 0) return;
    if (leaver_) leaver_(name);
  };
  departures_ = connection_.addMatchAsync(
      departure_rule, std::move(departed), [](sdbus::Message) {}, sdbus::return_slot);
}

Task<uid_t> ClientDirectory::uid_of(std::string name) {
  if (const auto known = clients_.find(name); known != clients_.end()) co_return known->second;
  // The rule goes out before the question: a client that leaves after the answer
  // is heard of.
  follow_departures();
  OneShot<std::optional<uint32_t>> answer;
  bus_->callMethodAsync("GetConnectionUnixUser")
      .onInterface("org.freedesktop.DBus")
      .withArguments(name)
      .uponReplyInvoke([sender = answer.sender()](std::optional<sdbus::Error> error, uint32_t uid) {
        sender.deliver(error ? std::nullopt : std::optional(uid));
      });
  const std::optional<uint32_t> uid = co_await answer;
  if (!uid) throw_denied("the caller has left the bus");
  clients_.insert_or_assign(name, *uid);
  co_return *uid;
}

}  // namespace loopd
