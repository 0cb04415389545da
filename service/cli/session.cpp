// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/session.hpp"

#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "dbus/names.hpp"

namespace loopctl {
namespace {

// How long a person may take to answer polkit's question.
constexpr auto answer_patience = std::chrono::minutes(5);

constexpr const char* private_address = "unix:path=/run/loopd/bus";

struct Unref {
  void operator()(sd_bus* bus) const { sd_bus_unref(bus); }
};
using Bus = std::unique_ptr<sd_bus, Unref>;

void check(int result, const std::string& what) {
  if (result < 0) throw Failure(what, std::generic_category().message(-result), exit_no_service);
}

Bus open_host(const std::string& host) {
  sd_bus* bus = nullptr;
  check(sd_bus_open_system_remote(&bus, host.c_str()), "cannot connect to " + host);
  return Bus(bus);
}

// Empty: nobody listens there.
Bus open_private() {
  sd_bus* made = nullptr;
  check(sd_bus_new(&made), "cannot make a connection");
  Bus bus(made);
  check(sd_bus_set_address(bus.get(), private_address), private_address);
  sd_bus_negotiate_fds(bus.get(), 1);
  return sd_bus_start(bus.get()) < 0 ? nullptr : std::move(bus);
}

// Empty: there is no bus, and root may try elsewhere.
Bus open_system() {
  sd_bus* bus = nullptr;
  const int result = sd_bus_open_system(&bus);
  if (result >= 0) return Bus(bus);
  if ((result == -ENOENT || result == -ECONNREFUSED) && ::geteuid() == 0) return nullptr;
  check(result, "cannot connect to the system bus");
  return nullptr;
}

}  // namespace

Session::Session(const Invocation& invocation, Questions questions, std::chrono::microseconds patience) {
  Bus bus;
  if (const auto host = invocation.value("host")) {
    transport_ = Transport::host;
    bus = open_host(*host);
  } else if (bus = open_system(); !bus) {
    transport_ = Transport::socket;
    bus = open_private();
    if (!bus)
      throw Failure("cannot connect to loopd", "there is no system bus, nor its private socket",
                    exit_no_service);
  }
  const bool may_ask = questions == Questions::possible && transport_ == Transport::bus &&
                       !invocation.has("no-ask-password") && ::isatty(STDIN_FILENO) == 1;
  if (may_ask) {
    sd_bus_set_allow_interactive_authorization(bus.get(), 1);
    patience += answer_patience;
    if (::geteuid() != 0) agent_.emplace();  // root is never asked
  }
  connection_ = sdbus::createBusConnection(bus.release());
  connection_->setMethodCallTimeout(patience);
}

Manager::Manager(Session& session)
    : ProxyInterfaces(session.connection(), sdbus::ServiceName(loopd::bus_name),
                      sdbus::ObjectPath(loopd::root_path)) {}

Device::Device(Session& session, const sdbus::ObjectPath& path)
    : ProxyInterfaces(session.connection(), sdbus::ServiceName(loopd::bus_name), path) {}

}  // namespace loopctl
