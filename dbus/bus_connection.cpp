// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/bus_connection.hpp"

#include <utility>

#include "dbus/names.hpp"

namespace loopd {
namespace {

// The bus sends what it has routed to us before it says that the name is nobody's:
// nothing comes by the name after that.
constexpr const char* name_lost_rule =
    "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
    "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.example.Loop1',arg2=''";

}  // namespace

std::shared_ptr<BusConnection> BusConnection::make(sd_bus* bus, const ServiceParts& parts) {
  std::shared_ptr<BusConnection> made(new BusConnection(bus, parts));
  made->tree_ = std::make_unique<ObjectTree>(
      *made->connection_, bus, parts, [self = made.get()] { return self->current_caller(); },
      [self = made.get()] { return self->shared_from_this(); },
      [self = made.get()](const std::string& name) { return !self->clients_.is_known(name); });
  made->note_callers();
  return made;
}

BusConnection::BusConnection(sd_bus* bus, const ServiceParts& parts)
    : bus_(bus),
      connection_(sdbus::createBusConnection(bus)),
      operations_(parts.operations),
      calls_(parts.calls),
      clients_(*connection_, bus),
      authorizer_(*connection_) {
  clients_.on_leave(
      [this](const std::string& name) { calls_.start(operations_.removing().client_left(id(), name)); });
}

// After the tree, as the last filter is the first that is asked: who waits at the gate is a client, too,
// and is missed when he leaves.
void BusConnection::note_callers() {
  sd_bus_slot* slot = nullptr;
  const int r = sd_bus_add_filter(bus_, &slot, on_message, this);
  calls_watch_.reset(slot);
  if (r < 0) throw sdbus::createError(-r, "cannot see the calls of the system bus");
}

// Whatever they call, a property or the list of objects, too: they are clients.
int BusConnection::on_message(sd_bus_message* message, void* self, sd_bus_error*) {
  uint8_t type = 0;
  const char* sender = sd_bus_message_get_sender(message);
  if (sender == nullptr || sd_bus_message_get_type(message, &type) < 0) return 0;
  if (type == SD_BUS_MESSAGE_METHOD_CALL) static_cast<BusConnection*>(self)->clients_.note(sender);
  return 0;
}

// Closed first: sdbus-c++ would flush, and wait for a bus that does not read.
BusConnection::~BusConnection() { sd_bus_close(bus_); }

void BusConnection::request_name(NameOutcome outcome) {
  name_outcome_ = std::move(outcome);
  sd_bus_slot* slot = nullptr;
  const int r = sd_bus_request_name_async(bus_, &slot, bus_name, 0, on_name_reply, this);
  name_request_.reset(slot);
  if (r < 0) name_outcome_(-r);
}

int BusConnection::on_name_reply(sd_bus_message* reply, void* self, sd_bus_error*) {
  // Replies of the bus: 1 primary owner, 2 in the queue, 3 somebody else's, 4 ours already.
  uint32_t answer = 0;
  int error = sd_bus_message_get_errno(reply);
  if (error == 0 && sd_bus_message_read(reply, "u", &answer) < 0) error = EBADMSG;
  if (error == 0 && answer != 1 && answer != 4) error = EEXIST;
  auto* connection = static_cast<BusConnection*>(self);
  connection->has_name_ = error == 0;
  connection->name_outcome_(error);
  return 1;
}

void BusConnection::release_name(std::function<void()> released) {
  if (!has_name_) return released();
  released_ = std::move(released);
  sd_bus_slot* watch = nullptr;
  sd_bus_slot* release = nullptr;
  // In this order: the bus answers one after the other.
  int r = sd_bus_add_match_async(bus_, &watch, name_lost_rule, on_name_lost, nullptr, this);
  name_watch_.reset(watch);
  if (r >= 0) r = sd_bus_release_name_async(bus_, &release, bus_name, nullptr, nullptr);
  name_release_.reset(release);
  if (r < 0) std::exchange(released_, nullptr)();
}

int BusConnection::on_name_lost(sd_bus_message*, void* self, sd_bus_error*) {
  const auto released = std::exchange(static_cast<BusConnection*>(self)->released_, nullptr);
  if (released) released();
  return 0;
}

Task<void> BusConnection::require(Caller caller, Action action, AuthorizationDetails details) {
  return authorizer_.require(std::move(caller), action, std::move(details));
}

// Reads the message that is being dispatched now; the task asks the bus.
Task<Caller> BusConnection::current_caller() {
  sd_bus_message* message = sd_bus_get_current_message(bus_);
  const char* sender = message ? sd_bus_message_get_sender(message) : nullptr;
  const bool interactive = message && sd_bus_message_get_allow_interactive_authorization(message) > 0;
  return identify(sender ? sender : "", interactive);
}

Task<Caller> BusConnection::identify(std::string sender, bool interactive) {
  Caller caller;
  caller.clientele = this;
  caller.uid = co_await clients_.uid_of(sender);
  caller.name = std::move(sender);
  caller.interactive = interactive;
  co_return caller;
}

}  // namespace loopd
