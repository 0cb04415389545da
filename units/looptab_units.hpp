// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The units that a line of looptab becomes.
#pragma once

#include <string>
#include <vector>

#include "core/looptab.hpp"

namespace units {

// A file below the generator's directory, or a symbolic link.
struct GeneratedFile {
  std::string path;     // relative: "loop@data.service"
  std::string content;  // of a link, where it leads
  bool is_link = false;

  bool operator==(const GeneratedFile&) const = default;
};

struct Surroundings {
  std::string looptab;         // path of the file
  std::string attach_program;  // path of loopd-attach
};

// "loop@data.service"
std::string service_name(const loop::LoopTabEntry& entry);

// "loops.target", or "remote-loops.target" for one on the network.
const char* target_name(bool on_network);

std::vector<GeneratedFile> units_of(const loop::LoopTabEntry& entry, bool on_network,
                                    const Surroundings& surroundings);

}  // namespace units
