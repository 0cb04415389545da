// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/peer_connection.hpp"

#include <utility>

#include "dbus/errors.hpp"

namespace loopd {

std::shared_ptr<PeerConnection> PeerConnection::make(sd_bus* bus, const ServiceParts& parts, std::string run,
                                                     uint64_t number) {
  return std::shared_ptr<PeerConnection>(new PeerConnection(bus, parts, std::move(run), number));
}

PeerConnection::PeerConnection(sd_bus* bus, const ServiceParts& parts, std::string run, uint64_t number)
    : bus_(bus),
      connection_(sdbus::createBusConnection(bus)),
      parts_(parts),
      run_(std::move(run)),
      name_(std::string(private_prefix) + std::to_string(number)),
      driver_(bus, number, [this] { serve(); }) {}

void PeerConnection::serve() {
  if (!open_) return;
  tree_ = std::make_unique<ObjectTree>(
      *connection_, bus_, parts_, [this] { return current_caller(); }, [this] { return shared_from_this(); },
      [](const std::string&) { return false; });
}

// Closed first: sdbus-c++ would flush, and wait for a peer that does not read.
PeerConnection::~PeerConnection() { sd_bus_close(bus_); }

void PeerConnection::closed() {
  open_ = false;
  tree_.reset();
  parts_.calls.start(parts_.operations.removing().client_left(run_, name_));
}

// The socket is root's alone.
Task<void> PeerConnection::require(Caller caller, Action, AuthorizationDetails) {
  if (caller.uid != 0) throw_denied("the private socket is for root");
  co_return;
}

Task<Caller> PeerConnection::current_caller() {
  Caller caller;
  caller.name = name_;
  caller.clientele = this;
  co_return caller;
}

}  // namespace loopd
