// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "dbus/task.hpp"

namespace loopd {

// The clients that have called and are still on the bus, and the bus's answer to
// "who is :1.42", asked once and kept until the client leaves. Event loop's thread
// only.
class ClientDirectory {
 public:
  using Leaver = std::function<void(const std::string& name)>;

  // Both are the same connection, and must outlive it.
  ClientDirectory(sdbus::IConnection& connection, sd_bus* bus);

  // Names are unique on one bus: its id, and the name, name a client for ever.
  const std::string& bus_id() const { return bus_id_; }

  // To be called for each message of a client.
  void note(const std::string& name) { clients_.try_emplace(name); }

  // Has called, and has not left.
  bool is_known(const std::string& name) const { return clients_.contains(name); }

  // Throws AccessDenied where the client has left by now.
  Task<uid_t> uid_of(std::string name);

  // True where the bus says so; false also where the bus itself is gone. From then
  // on the client is known.
  Task<bool> has_left(std::string name);

  // Called for every known client that leaves.
  void on_leave(Leaver leaver) { leaver_ = std::move(leaver); }

  size_t size() const { return clients_.size(); }

 private:
  struct Answer {
    std::optional<uid_t> uid;
    bool no_such_name = false;
  };

  void follow_departures();
  Task<Answer> ask(std::string name);

  sdbus::IConnection& connection_;
  std::string bus_id_;
  std::unique_ptr<sdbus::IProxy> bus_;
  std::map<std::string, std::optional<uid_t>> clients_;
  Leaver leaver_;
  sdbus::Slot departures_;
};

}  // namespace loopd
