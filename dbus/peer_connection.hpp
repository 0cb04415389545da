// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <systemd/sd-bus.h>

#include <memory>
#include <string>

#include "dbus/clientele.hpp"
#include "dbus/object_tree.hpp"
#include "dbus/peer_driver.hpp"

namespace loopd {

// One peer of the private socket, which is root: no bus in between, the same
// objects, which are there and tell of changes from its first message on. Its calls under way keep it alive
// after it is dropped. Event loop's thread only.
class PeerConnection final : public Clientele, public std::enable_shared_from_this<PeerConnection> {
 public:
  // Takes a reference of the server's end of a connection that is authenticated, driven by whoever
  // made it. `run` names this run of the service, `number` the peer in it. Throws
  // sdbus::Error.
  static std::shared_ptr<PeerConnection> make(sd_bus* bus, const ServiceParts& parts, std::string run,
                                              uint64_t number);
  ~PeerConnection() override;

  // To be called when the peer has hung up: ends what it held.
  void closed();

  const std::string& id() const override { return run_; }
  bool is_known(const std::string& name) const override { return open_ && name == name_; }
  Task<void> require(Caller caller, Action action, AuthorizationDetails details) override;

 private:
  PeerConnection(sd_bus* bus, const ServiceParts& parts, std::string run, uint64_t number);

  void serve();
  Task<Caller> current_caller();

  sd_bus* bus_;  // owned by connection_
  std::unique_ptr<sdbus::IConnection> connection_;
  const ServiceParts& parts_;
  std::string run_;
  std::string name_;
  bool open_ = true;
  PeerDriver driver_;
  std::unique_ptr<ObjectTree> tree_;
};

}  // namespace loopd
