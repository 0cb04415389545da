// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <getopt.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "service/cli/common.hpp"

namespace loopctl {
namespace {

struct Request {
  std::string file;
  bool read_only = false;
  std::map<std::string, sdbus::Variant> options;  // as on the bus
};

constexpr const char* option_help =
    "    --read-only                Attach it read-only\n"
    "    --offset=SIZE              First byte of FILE that is mapped\n"
    "    --size-limit=SIZE          Most bytes that are mapped\n"
    "    --block-size=SIZE          Logical block size: 512 to 4096, a power of two\n"
    "    --block-size-auto          The one that the image's GPT is made for\n"
    "    --autoclear                Detach it when it is no longer used\n"
    "    --partition-scan           Make the partitions of its table, and wait for them\n"
    "    --direct-io                Go past the page cache, where the file can\n"
    "    --reference=NAME           Name it in /dev/disk/by-loop-ref\n"
    "    --number=N                 Take loopN and no other\n"
    "    --reuse                    Print the device that has it so already, if there is one\n"
    "    --allow-overlap            Even where a writable device maps the same bytes\n";

// The long options are the options on the bus, word by word.
const option long_options[] = {
    {"allow-overlap", no_argument, nullptr, 'b'},
    {"autoclear", no_argument, nullptr, 'b'},
    {"block-size", required_argument, nullptr, 'u'},
    {"block-size-auto", no_argument, nullptr, 'b'},
    {"direct-io", no_argument, nullptr, 'b'},
    {"number", required_argument, nullptr, 'n'},
    {"offset", required_argument, nullptr, 't'},
    {"partition-scan", no_argument, nullptr, 'b'},
    {"read-only", no_argument, nullptr, 'b'},
    {"reference", required_argument, nullptr, 's'},
    {"reuse", no_argument, nullptr, 'b'},
    {"size-limit", required_argument, nullptr, 't'},
    {nullptr, 0, nullptr, 0},
};

uint32_t narrow(const std::string& option, uint64_t value) {
  if (value > std::numeric_limits<uint32_t>::max()) throw UsageError(option + ": is too large");
  return static_cast<uint32_t>(value);
}

sdbus::Variant parse_value(int type, const std::string& option, const char* argument) {
  switch (type) {
    case 'b':
      return sdbus::Variant(true);
    case 's':
      return sdbus::Variant(std::string(argument));
    case 't':
      return sdbus::Variant(parse_size(option, argument));
    case 'n':
      return sdbus::Variant(
          narrow(option, parse_number(option, argument, std::numeric_limits<uint32_t>::max())));
    default:
      return sdbus::Variant(narrow(option, parse_size(option, argument)));
  }
}

Request parse(int argc, char** argv) {
  Request request;
  int which = 0;
  for (int type; (type = ::getopt_long(argc, argv, "", long_options, &which)) != -1;) {
    if (type == '?') throw UsageError();
    const std::string name = long_options[which].name;
    request.options[name] = parse_value(type, "--" + name, optarg);
    if (name == "read-only") request.read_only = true;
  }
  if (argc - optind != 1) throw UsageError("needs one FILE");
  request.file = argv[optind];
  return request;
}

// The service takes only what this user may open.
sdbus::UnixFd open_file(const Request& request) {
  // O_NONBLOCK: a pipe must not hang here, the service says what is wrong with it.
  const int flags = (request.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  const int fd = ::open(request.file.c_str(), flags);
  if (fd < 0) throw Failure(request.file, errno);
  return {fd, sdbus::adopt_fd};
}

int run(int argc, char** argv) {
  const Request request = parse(argc, argv);
  const sdbus::UnixFd file = open_file(request);
  const auto connection = connect_to_bus();
  try {
    const sdbus::ObjectPath device = Manager(*connection).Attach(file, request.options);
    std::puts(node_of_object(device).c_str());
  } catch (const sdbus::Error& error) {
    throw Failure(request.file, error.getMessage());
  }
  return EXIT_SUCCESS;
}

}  // namespace

const Verb attach_verb{"attach", "FILE", "Attach FILE and print the device", option_help, run};

}  // namespace loopctl
