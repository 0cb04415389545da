// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The errors of the bus, as one line for people and an exit code for scripts.
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <span>
#include <string>

#include "service/cli/verb.hpp"

namespace loopctl {

// What can be done about an error, by its name.
struct Advice {
  const char* error;
  const char* text;
};

// "what: why; what to do". The advice is the verb's own; what is true for every
// verb is known here.
Failure failure_of(const std::string& what, const sdbus::Error& error, std::span<const Advice> advice = {});

// Says it on the standard error output, in one line.
void complain(const std::string& message);

}  // namespace loopctl
