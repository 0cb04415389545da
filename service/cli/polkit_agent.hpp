// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

namespace loopctl {

// polkit's own text agent, which asks for passwords on the terminal as long as this
// object lives, unless the session has an agent already. Where polkit is not
// installed there is none, and polkit says no.
class PolkitAgent {
 public:
  // Returns when the agent is registered, or cannot be.
  PolkitAgent();
  PolkitAgent(const PolkitAgent&) = delete;
  PolkitAgent& operator=(const PolkitAgent&) = delete;
  ~PolkitAgent();

 private:
  pid_t pid_ = -1;
};

}  // namespace loopctl
