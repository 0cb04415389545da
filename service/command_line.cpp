// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/command_line.hpp"

#include <getopt.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "core/whole_number.hpp"
#include "service/log.hpp"
#include "service/version.hpp"

namespace loopd {
namespace {

constexpr const char* help_text =
    R"(Usage: loopd [OPTION]...

Publishes the loop devices of this system on D-Bus as org.example.Loop1.
Connects to the system bus, or where $DBUS_SYSTEM_BUS_ADDRESS says, and serves
root on the sockets that the service manager passes.

  -h, --help                     Show this text
      --version                  Show the version
      --log-level=LEVEL          err, warning, notice, info (default) or debug
      --idle-timeout=TIME        End after so long without a client or a call:
                                 seconds, or with a unit (500ms, 5min), or
                                 infinity (default 30s)
      --max-devices-per-user=N   Devices that one ordinary user may have
                                 attached at once (default 64)
      --max-partitions-per-user=N
                                 Partitions that these may have together
                                 (default 1024)
      --state-directory=DIR      Where owners are remembered (default
                                 $RUNTIME_DIRECTORY, else /run/loopd)
)";

enum LongOption : int {
  version_option = 256,
  log_level_option,
  idle_timeout_option,
  max_devices_option,
  max_partitions_option,
  state_directory_option
};

struct Unit {
  std::string_view name;
  uint64_t usec;
};

constexpr std::array<Unit, 6> units{
    {{"", 1'000'000}, {"s", 1'000'000}, {"us", 1}, {"ms", 1'000}, {"min", 60'000'000}, {"h", 3'600'000'000}}};

constexpr uint64_t longest_timeout_usec = uint64_t{366} * 24 * 3'600'000'000;

// Nothing is stored for infinity.
bool parse_timeout(const std::string_view text, std::optional<std::chrono::microseconds>& timeout) {
  timeout.reset();
  if (text == "infinity") return true;
  uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  const std::string_view unit_name(result.ptr, static_cast<size_t>(end - result.ptr));
  const auto unit =
      std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == unit_name; });
  if (result.ec != std::errc() || unit == units.end() || number > longest_timeout_usec / unit->usec)
    return false;
  timeout = std::chrono::microseconds(number * unit->usec);
  return true;
}

std::string default_state_directory() {
  const char* directories = std::getenv("RUNTIME_DIRECTORY");  // systemd separates several by colons
  const std::string first = directories ? std::string(directories, std::strcspn(directories, ":")) : "";
  return first.empty() ? "/run/loopd" : first;
}

}  // namespace

std::optional<CommandLine> parse_command_line(int argc, char** argv, int& exit_code) {
  static const option long_options[] = {
      {"help", no_argument, nullptr, 'h'},
      {"version", no_argument, nullptr, version_option},
      {"log-level", required_argument, nullptr, log_level_option},
      {"idle-timeout", required_argument, nullptr, idle_timeout_option},
      {"max-devices-per-user", required_argument, nullptr, max_devices_option},
      {"max-partitions-per-user", required_argument, nullptr, max_partitions_option},
      {"state-directory", required_argument, nullptr, state_directory_option},
      {nullptr, 0, nullptr, 0},
  };
  CommandLine line;
  line.state_directory = default_state_directory();
  auto wrong = [&](const std::string& message) {
    std::fprintf(stderr, "loopd: %s\n", message.c_str());
    exit_code = EXIT_FAILURE;
    return std::nullopt;
  };
  for (int c; (c = ::getopt_long(argc, argv, "h", long_options, nullptr)) >= 0;) {
    switch (c) {
      case 'h':
        std::fputs(help_text, stdout);
        exit_code = EXIT_SUCCESS;
        return std::nullopt;
      case version_option:
        std::puts("loopd " LOOPD_VERSION);
        exit_code = EXIT_SUCCESS;
        return std::nullopt;
      case log_level_option: {
        const auto level = log::parse_level(optarg);
        if (!level) return wrong(std::string("--log-level: '") + optarg + "' is no level");
        line.log_level = *level;
        break;
      }
      case idle_timeout_option:
        if (!parse_timeout(optarg, line.idle_timeout)) {
          return wrong(std::string("--idle-timeout: '") + optarg +
                       "' is no time; give seconds, or 500ms, 5min, infinity");
        }
        break;
      case max_devices_option:
        if (!loop::is_whole_number(optarg, line.max_devices_per_user)) {
          return wrong(std::string("--max-devices-per-user: '") + optarg + "' is no number");
        }
        break;
      case max_partitions_option:
        if (!loop::is_whole_number(optarg, line.max_partitions_per_user)) {
          return wrong(std::string("--max-partitions-per-user: '") + optarg + "' is no number");
        }
        break;
      case state_directory_option:
        line.state_directory = optarg;
        break;
      default:
        exit_code = EXIT_FAILURE;  // getopt has said what is wrong
        return std::nullopt;
    }
  }
  if (optind < argc) return wrong(std::string("'") + argv[optind] + "': takes no arguments, see --help");
  return line;
}

}  // namespace loopd
