// SPDX-License-Identifier: LGPL-2.1-or-later
#include <cstdio>
#include <cstdlib>

#include "service/cli/all_verbs.hpp"
#include "service/cli/device_argument.hpp"

namespace loopctl {
namespace {

int run(const Invocation& invocation) {
  const std::vector<std::string> files = invocation.names();
  if (files.empty()) throw UsageError("needs a FILE");
  Session session(invocation);
  bool found = false;
  for (const std::string& file : files) {
    for (const NamedDevice& device : find_devices_of_file(session, file)) {
      std::puts(device.node.c_str());
      found = true;
    }
  }
  return found ? EXIT_SUCCESS : exit_not_found;
}

}  // namespace

const Verb find_verb{"find", "FILE…", "Print the devices that these files are attached to", {}, run};

}  // namespace loopctl
