// SPDX-License-Identifier: LGPL-2.1-or-later
#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include "service/cli/common.hpp"

namespace loopctl {
namespace {

int run(int argc, char** argv) {
  const std::vector<std::string> arguments = arguments_only(argc, argv);
  if (arguments.size() != 1) throw UsageError("needs one DEVICE");
  const std::string node = device_node(arguments[0]);
  const auto connection = connect_to_bus();
  try {
    const auto [before, now] = Device(*connection, find_device(*connection, node)).Resize();
    std::printf("%s: %" PRIu64 " -> %" PRIu64 " bytes\n", node.c_str(), before, now);
  } catch (const sdbus::Error& error) {
    throw Failure(node, error.getMessage());
  }
  return EXIT_SUCCESS;
}

}  // namespace

const Verb resize_verb{"resize", "DEVICE", "Compute its size anew, after FILE has grown or shrunk", "", run};

}  // namespace loopctl
