// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/settings.hpp"

#include <getopt.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace soak {
namespace {

constexpr const char* help_text = R"(Usage: loopd-soak [OPTION]...

  --cycles=N    Attach, use and remove so often in all, under load (500)
  --kills=N     Kill the service so often (50)
  --calls=N     Make up so many calls (10000)
  --clients=N   So many at once (64)
  --seed=N      Make the choices of the run that printed this
)";

Settings current;

uint64_t number(const char* text) {
  char* end = nullptr;
  const uint64_t value = std::strtoull(text, &end, 10);
  if (end != text && *end == '\0') return value;
  std::fprintf(stderr, "not a number: %s\n", text);
  std::exit(EXIT_FAILURE);
}

}  // namespace

const Settings& settings() { return current; }

void parse_settings(int argc, char** argv) {
  static constexpr std::array<option, 7> options{{{"cycles", required_argument, nullptr, 'c'},
                                                  {"kills", required_argument, nullptr, 'k'},
                                                  {"calls", required_argument, nullptr, 'a'},
                                                  {"clients", required_argument, nullptr, 'n'},
                                                  {"seed", required_argument, nullptr, 's'},
                                                  {"help", no_argument, nullptr, 'h'},
                                                  {}}};
  current.seed = std::random_device()();
  for (int got = 0; (got = ::getopt_long(argc, argv, "h", options.data(), nullptr)) >= 0;) {
    if (got == 'c') {
      current.cycles = static_cast<unsigned>(number(optarg));
    } else if (got == 'k') {
      current.kills = static_cast<unsigned>(number(optarg));
    } else if (got == 'a') {
      current.calls = number(optarg);
    } else if (got == 'n') {
      current.clients = static_cast<unsigned>(number(optarg));
    } else if (got == 's') {
      current.seed = number(optarg);
    } else {
      std::fputs(help_text, got == 'h' ? stdout : stderr);
      std::exit(got == 'h' ? EXIT_SUCCESS : EXIT_FAILURE);
    }
  }
}

}  // namespace soak
