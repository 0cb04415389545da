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

constexpr const char* name_has_no_owner = "org.freedesktop.DBus.Error.NameHasNoOwner";

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
  // Before the first client can be known: no departure is missed. The bus sends a
  // client's calls on before it tells that it has left.
  follow_departures();
}

void ClientDirectory::follow_departures() {
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
  if (const auto known = clients_.find(name); known != clients_.end() && known->second) {
    co_return *known->second;
  }
  const Answer answer = co_await ask(name);
  if (!answer.uid) throw_denied("the caller has left the bus");
  co_return *answer.uid;
}

Task<bool> ClientDirectory::has_left(std::string name) {
  if (clients_.contains(name)) co_return false;
  const Answer answer = co_await ask(name);
  // Where nobody knows whose it is, its departure is to be heard all the same.
  if (!answer.no_such_name) clients_.try_emplace(name);
  co_return answer.no_such_name;
}

Task<ClientDirectory::Answer> ClientDirectory::ask(std::string name) {
  OneShot<Answer> answered;
  bus_->callMethodAsync("GetConnectionUnixUser")
      .onInterface("org.freedesktop.DBus")
      .withArguments(name)
      .uponReplyInvoke([sender = answered.sender()](std::optional<sdbus::Error> error, uint32_t uid) {
        Answer answer;
        if (!error) answer.uid = uid;
        answer.no_such_name = error && error->getName() == name_has_no_owner;
        sender.deliver(answer);
      });
  const Answer answer = co_await answered;
  if (answer.uid) clients_.insert_or_assign(name, *answer.uid);
  co_return answer;
}

}  // namespace loopd
