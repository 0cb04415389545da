// SPDX-License-Identifier: LGPL-2.1-or-later
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "dbus/names.hpp"
#include "service/cli/all_verbs.hpp"
#include "service/cli/device_argument.hpp"
#include "service/cli/failure.hpp"
#include "service/cli/text.hpp"
#include "service/cli/visible_holders.hpp"

namespace loopctl {
namespace {

constexpr uint64_t longest_timeout = 3600;  // seconds

constexpr std::array options{
    Option{"all", 'a', nullptr, "Every device of FILE; without a name, every device (your own, if not root)"},
    Option{"lazy", 'l', nullptr, "Detach when the last holder lets go"},
    Option{"keep-node", 0, nullptr, "Leave the unbound device node"},
    Option{"timeout", 0, "SECONDS", "Wait that long for holders to go"},
};

constexpr std::array advice{
    Advice{loopd::error_name::device_busy, "--lazy detaches it when they let go, --timeout waits for that"},
};

struct Request {
  std::vector<std::string> names;
  std::map<std::string, sdbus::Variant> options;  // as on the bus
  std::chrono::seconds timeout{0};
  bool all = false;
};

Request parse(const Invocation& invocation) {
  Request request{.names = invocation.names(), .all = invocation.has("all")};
  for (const char* option : {"lazy", "keep-node"}) {
    if (invocation.has(option)) request.options[option] = sdbus::Variant(true);
  }
  if (const auto timeout = invocation.value("timeout")) {
    const uint64_t seconds = parse_number("--timeout", *timeout, longest_timeout);
    request.timeout = std::chrono::seconds(seconds);
    request.options["timeout"] = sdbus::Variant(seconds * 1'000'000);
  }
  if (request.names.empty() && !request.all) throw UsageError("needs a DEVICE, or --all");
  return request;
}

// The newest first: one may lie on another.
std::vector<NamedDevice> removable_devices(Session& session) {
  std::vector<NamedDevice> devices;
  for (const auto& [number, facts] : read_devices(session)) {
    if (::geteuid() != 0 && get<uint32_t>(facts.properties, "OwnerUID") != ::geteuid()) continue;
    devices.push_back(named(facts));
  }
  std::sort(devices.begin(), devices.end(),
            [](const NamedDevice& a, const NamedDevice& b) { return a.disk_sequence > b.disk_sequence; });
  return devices;
}

std::vector<NamedDevice> devices_to_remove(Session& session, const Request& request) {
  if (request.names.empty()) return removable_devices(session);
  std::vector<NamedDevice> devices;
  for (const std::string& name : request.names) {
    const auto found = request.all ? find_devices(session, name) : std::vector{find_device(session, name)};
    devices.insert(devices.end(), found.begin(), found.end());
  }
  return devices;
}

// The service may not look into other processes; who runs this program perhaps may.
sdbus::Error with_visible_holders(const Session& session, const NamedDevice& device,
                                  const sdbus::Error& error) {
  if (error.getName() != loopd::error_name::device_busy) return error;
  std::string message = error.getMessage();
  for (const std::string& holder : visible_holders(session, device.number)) {
    if (message.find(holder) == message.npos) message += ", " + holder;
  }
  return {error.getName(), message};
}

void remove_device(Session& session, const NamedDevice& device, const Request& request) {
  auto wishes = request.options;
  // Between the look-up and now the number may have become another's.
  if (device.disk_sequence != 0) wishes["disk-sequence"] = sdbus::Variant(device.disk_sequence);
  try {
    Device(session, device.object).RemoveWithOptions(wishes);
  } catch (const sdbus::Error& error) {
    throw failure_of(device.node, with_visible_holders(session, device, error), advice);
  }
}

int run(const Invocation& invocation) {
  const Request request = parse(invocation);
  Session session(invocation, Questions::possible, usual_patience + request.timeout);
  int code = EXIT_SUCCESS;
  for (const NamedDevice& device : devices_to_remove(session, request)) {
    try {
      remove_device(session, device, request);
    } catch (const Failure& failure) {
      // One that is busy does not keep the others.
      complain(failure.what());
      if (code == EXIT_SUCCESS) code = failure.exit_code;
    }
  }
  return code;
}

}  // namespace

const Verb remove_verb{"remove", "DEVICE…", "Detach the files and delete the devices", options, run};

}  // namespace loopctl
