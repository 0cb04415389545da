// SPDX-License-Identifier: LGPL-2.1-or-later
#include <getopt.h>

#include <cstdio>
#include <cstdlib>

#include "service/cli/common.hpp"

namespace loopctl {
namespace {

struct Request {
  std::vector<std::string> nodes;
  std::map<std::string, sdbus::Variant> options;  // as on the bus
  std::chrono::seconds timeout{0};
};

constexpr uint64_t longest_timeout = 3600;

constexpr const char* option_help =
    "    --lazy                     Detach when the last holder lets go\n"
    "    --keep-node                Leave the unbound device node\n"
    "    --timeout=SECONDS          Wait that long for holders to go\n";

const option long_options[] = {
    {"lazy", no_argument, nullptr, 'l'},
    {"keep-node", no_argument, nullptr, 'k'},
    {"timeout", required_argument, nullptr, 't'},
    {nullptr, 0, nullptr, 0},
};

Request parse(int argc, char** argv) {
  Request request;
  for (int c; (c = ::getopt_long(argc, argv, "", long_options, nullptr)) != -1;) {
    switch (c) {
      case 'l':
        request.options["lazy"] = sdbus::Variant(true);
        break;
      case 'k':
        request.options["keep-node"] = sdbus::Variant(true);
        break;
      case 't': {
        const uint64_t seconds = parse_number("--timeout", optarg, longest_timeout);
        request.timeout = std::chrono::seconds(seconds);
        request.options["timeout"] = sdbus::Variant(seconds * 1'000'000);
        break;
      }
      default:
        throw UsageError();
    }
  }
  for (int i = optind; i < argc; ++i) request.nodes.push_back(device_node(argv[i]));
  if (request.nodes.empty()) throw UsageError("needs a DEVICE");
  return request;
}

void remove_device(sdbus::IConnection& connection, const std::string& node, const Request& request) {
  Device device(connection, find_device(connection, node));
  if (request.options.empty()) {
    device.Remove();
  } else {
    device.RemoveWithOptions(request.options);
  }
}

int run(int argc, char** argv) {
  const Request request = parse(argc, argv);
  const auto connection = connect_to_bus(std::chrono::seconds(25) + request.timeout);
  int code = EXIT_SUCCESS;
  for (const std::string& node : request.nodes) {
    try {
      remove_device(*connection, node, request);
    } catch (const sdbus::Error& error) {
      // One that is busy does not keep the others.
      std::fprintf(stderr, "loopctl: %s: %s\n", node.c_str(), printable(error.getMessage()).c_str());
      code = exit_failed;
    }
  }
  return code;
}

}  // namespace

const Verb remove_verb{"remove", "DEVICE...", "Detach the file and delete the device", option_help, run};

}  // namespace loopctl
