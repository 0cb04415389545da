// SPDX-License-Identifier: LGPL-2.1-or-later
#include <array>
#include <cstdlib>

#include "service/cli/all_verbs.hpp"
#include "service/cli/device_argument.hpp"
#include "service/cli/failure.hpp"

namespace loopctl {
namespace {

constexpr std::array options{
    Option{"autoclear", 0, "[=BOOL]", "Detach it when it is no longer used"},
    Option{"direct-io", 0, "[=BOOL]", "Go past the page cache"},
};

int run(const Invocation& invocation) {
  const auto autoclear = invocation.truth("autoclear");
  const auto direct_io = invocation.truth("direct-io");
  const std::vector<std::string> names = invocation.names();
  if (names.empty()) throw UsageError("needs a DEVICE");
  if (!autoclear && !direct_io) throw UsageError("needs --autoclear or --direct-io");
  Session session(invocation, Questions::possible);
  for (const std::string& name : names) {
    const NamedDevice found = find_device(session, name);
    Device device(session, found.object);
    try {
      if (autoclear) device.SetAutoclear(*autoclear);
      if (direct_io) device.SetDirectIO(*direct_io);
    } catch (const sdbus::Error& error) {
      throw failure_of(found.node, error);
    }
  }
  return EXIT_SUCCESS;
}

}  // namespace

const Verb set_verb{"set", "DEVICE…", "Change what attach has set", options, run};

}  // namespace loopctl
