// SPDX-License-Identifier: LGPL-2.1-or-later
#include <cstdlib>

#include "service/cli/all_verbs.hpp"
#include "service/cli/device_argument.hpp"
#include "service/cli/failure.hpp"

namespace loopctl {
namespace {

int run(const Invocation& invocation) {
  const std::vector<std::string> names = invocation.names();
  if (names.empty()) throw UsageError("needs a DEVICE");
  Session session(invocation, Questions::possible);
  for (const std::string& name : names) {
    const NamedDevice device = find_device(session, name);
    try {
      Device(session, device.object).RescanPartitions();
    } catch (const sdbus::Error& error) {
      throw failure_of(device.node, error);
    }
  }
  return EXIT_SUCCESS;
}

}  // namespace

const Verb rescan_verb{
    "rescan", "DEVICE…", "Make the partitions those of the table that is there now", {}, run};

}  // namespace loopctl
