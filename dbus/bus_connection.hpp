// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <systemd/sd-bus.h>

#include <functional>
#include <memory>
#include <string>

#include "dbus/authorizer.hpp"
#include "dbus/client_directory.hpp"
#include "dbus/clientele.hpp"
#include "dbus/object_tree.hpp"

namespace loopd {

// The system bus as this service uses it: the objects, the clients, polkit, the
// name. Calls under way keep it alive after it is dropped. Event loop's thread
// only.
class BusConnection final : public Clientele, public std::enable_shared_from_this<BusConnection> {
 public:
  using NameOutcome = std::function<void(int error_number)>;  // 0: the name is ours

  // Takes a reference of a bus that is connected, and attached to the event loop by whoever made
  // it. The bus's ending is noticed there, too. Throws sdbus::Error.
  static std::shared_ptr<BusConnection> make(sd_bus* bus, const ServiceParts& parts);
  ~BusConnection() override;

  // Asks for org.example.Loop1. Not before the tree is complete: who finds the
  // name finds all.
  void request_name(NameOutcome outcome);

  // Gives the name up. `released` is called when nobody's call can reach this
  // connection by the name any more; those that came before were dispatched.
  void release_name(std::function<void()> released);

  ClientDirectory& clients() { return clients_; }

  const std::string& id() const override { return clients_.bus_id(); }
  bool is_known(const std::string& name) const override { return clients_.is_known(name); }
  Task<void> require(Caller caller, Action action, AuthorizationDetails details) override;

 private:
  BusConnection(sd_bus* bus, const ServiceParts& parts);

  void note_callers();
  Task<Caller> current_caller();
  Task<Caller> identify(std::string sender, bool interactive);
  static int on_message(sd_bus_message* message, void* self, sd_bus_error* error);
  static int on_name_reply(sd_bus_message* reply, void* self, sd_bus_error* error);
  static int on_name_lost(sd_bus_message* signal, void* self, sd_bus_error* error);

  sd_bus* bus_;  // owned by connection_
  std::unique_ptr<sdbus::IConnection> connection_;
  Operations& operations_;
  TaskGroup& calls_;
  ClientDirectory clients_;
  Authorizer authorizer_;
  NameOutcome name_outcome_;
  bool has_name_ = false;
  std::function<void()> released_;
  BusSlot calls_watch_;
  BusSlot name_request_;
  BusSlot name_watch_;
  BusSlot name_release_;
  std::unique_ptr<ObjectTree> tree_;
};

}  // namespace loopd
