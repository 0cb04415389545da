// SPDX-License-Identifier: LGPL-2.1-or-later
#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include "dbus/names.hpp"
#include "service/cli/all_verbs.hpp"
#include "service/cli/device_argument.hpp"
#include "service/cli/failure.hpp"
#include "service/cli/text.hpp"

namespace loopctl {
namespace {

constexpr std::array options{
    Option{"size-limit", 0, "SIZE", "Set a new limit first; 0: no limit"},
    Option{"force", 'f', nullptr, "Shrink it, whatever that cuts"},
};

constexpr std::array advice{
    Advice{loopd::error_name::would_truncate, "shrink that first, or use --force to lose it"},
};

int run(const Invocation& invocation) {
  const std::vector<std::string> names = invocation.names();
  if (names.empty()) throw UsageError("needs a DEVICE");
  std::map<std::string, sdbus::Variant> wishes;
  if (invocation.has("force")) wishes["force"] = sdbus::Variant(true);
  if (const auto limit = invocation.value("size-limit")) {
    wishes["size-limit"] = sdbus::Variant(parse_size("--size-limit", *limit));
  }
  Session session(invocation, Questions::possible);
  for (const std::string& name : names) {
    const NamedDevice device = find_device(session, name);
    try {
      const auto [before, now] = Device(session, device.object).ResizeWithOptions(wishes);
      std::printf("%s: %" PRIu64 " -> %" PRIu64 " bytes\n", device.node.c_str(), before, now);
    } catch (const sdbus::Error& error) {
      throw failure_of(device.node, error, advice);
    }
  }
  return EXIT_SUCCESS;
}

}  // namespace

const Verb resize_verb{"resize", "DEVICE…", "Compute the size anew, after the file has grown or shrunk",
                       options, run};

}  // namespace loopctl
