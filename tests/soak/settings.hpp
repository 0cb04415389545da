// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>

namespace soak {

// How long and how hard: of the command line.
struct Settings {
  unsigned clients = 64;
  unsigned cycles = 500;
  unsigned kills = 50;
  uint64_t calls = 10'000;  // made up
  uint64_t seed = 0;        // every client's choices follow from it; chosen where none is given
};

const Settings& settings();

// Takes what GoogleTest left of the command line. Ends the program where it is
// not understood.
void parse_settings(int argc, char** argv);

}  // namespace soak
