// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <string>

namespace loopd {

// Who called a method.
struct Caller {
  std::string name;  // unique bus name; empty: a peer of the private socket, root alone
  uid_t uid = 0;
  bool interactive = false;  // allows polkit to ask the user
};

}  // namespace loopd
