// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The connection to loopd: by the system bus; by ssh, with --host; by the private
// socket, where root finds no system bus.
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "dbus/loop1_proxy.h"
#include "service/cli/polkit_agent.hpp"
#include "service/cli/verb.hpp"

namespace loopctl {

// Whether polkit may have a question.
enum class Questions { none, possible };

// How long the service may take for a call that is not told to wait.
inline constexpr std::chrono::microseconds usual_patience = std::chrono::seconds(25);

class Session {
 public:
  // Throws Failure. Where a person is at the terminal, polkit may ask them, and calls
  // wait for the answer; `patience` is how long the service itself may take.
  explicit Session(const Invocation& invocation, Questions questions = Questions::none,
                   std::chrono::microseconds patience = usual_patience);

  sdbus::IConnection& connection() { return *connection_; }

  // Another machine: descriptors do not travel, and paths are that machine's.
  bool is_remote() const { return transport_ == Transport::host; }
  // No bus daemon is between: no names have owners, and messages no senders.
  bool is_private() const { return transport_ == Transport::socket; }

 private:
  enum class Transport { bus, host, socket };

  Transport transport_ = Transport::bus;
  std::unique_ptr<sdbus::IConnection> connection_;
  std::optional<PolkitAgent> agent_;
};

// For calls; signals are not listened to.
class Manager final
    : public sdbus::ProxyInterfaces<org::example::Loop1::Manager_proxy, sdbus::ObjectManager_proxy> {
 public:
  explicit Manager(Session& session);

 private:
  using Properties = std::map<sdbus::PropertyName, sdbus::Variant>;
  void onInterfacesAdded(const sdbus::ObjectPath&,
                         const std::map<sdbus::InterfaceName, Properties>&) override {}
  void onInterfacesRemoved(const sdbus::ObjectPath&, const std::vector<sdbus::InterfaceName>&) override {}
};

class Device final : public sdbus::ProxyInterfaces<org::example::Loop1_proxy> {
 public:
  Device(Session& session, const sdbus::ObjectPath& path);

 private:
  void onPartitionAdded(const sdbus::ObjectPath&, const std::string&, const uint32_t&) override {}
  void onPartitionRemoved(const sdbus::ObjectPath&, const std::string&, const uint32_t&) override {}
};

}  // namespace loopctl
