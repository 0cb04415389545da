// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <limits>

#include "service/cli/all_verbs.hpp"
#include "service/cli/command.hpp"
#include "service/cli/device_argument.hpp"
#include "service/cli/failure.hpp"
#include "service/cli/text.hpp"

namespace loopctl {
namespace {

constexpr int default_descriptor = 3;
constexpr int largest_descriptor = 1023;

constexpr std::array options{
    Option{"descriptor", 0, "N", "Give it to COMMAND as descriptor N (default 3; 0 is the standard input)"},
    Option{"write", 'w', nullptr, "Open it for writing, too"},
};

std::vector<std::string> command_of(const Invocation& invocation) {
  const auto& arguments = invocation.arguments();
  std::vector<std::string> command;
  if (!arguments.empty()) command.assign(arguments.begin() + 1, arguments.end());
  command.insert(command.end(), invocation.command().begin(), invocation.command().end());
  if (arguments.empty() || command.empty()) throw UsageError("needs a DEVICE and a COMMAND");
  return command;
}

sdbus::UnixFd open_device(Session& session, const std::string& name, bool write) {
  const NamedDevice device = find_device(session, name);
  try {
    return Device(session, device.object).Open(write ? "rw" : "r");
  } catch (const sdbus::Error& error) {
    throw failure_of(device.node, error);
  }
}

int run(const Invocation& invocation) {
  const std::vector<std::string> command = command_of(invocation);
  int target = default_descriptor;
  if (const auto wish = invocation.value("descriptor")) {
    target = static_cast<int>(parse_number("--descriptor", *wish, largest_descriptor));
  }
  if (invocation.has("host")) throw UsageError("--host: a descriptor does not travel to another machine");
  sdbus::UnixFd device;
  {
    Session session(invocation, Questions::possible);
    device = open_device(session, invocation.arguments()[0], invocation.has("write"));
  }
  // The command inherits what is not close-on-exec, and only that.
  const int done = device.get() == target ? ::fcntl(target, F_SETFD, 0) : ::dup2(device.get(), target);
  if (done < 0) throw Failure("--descriptor", errno);
  return become_command(command, {{"LOOPCTL_DESCRIPTOR", std::to_string(target)}});
}

}  // namespace

const Verb open_verb{"open", "DEVICE -- COMMAND…", "Run a command with the device on a descriptor", options,
                     run};

}  // namespace loopctl
