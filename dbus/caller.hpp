// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

namespace loopd {

class Clientele;

// Who called a method. Without a clientele it is the service itself.
struct Caller {
  std::string name;  // unique bus name; "private/3": a peer of the private socket
  uid_t uid = 0;
  bool interactive = false;        // allows polkit to ask the user
  Clientele* clientele = nullptr;  // lives as long as the call
};

// No bus has such names.
inline constexpr std::string_view private_prefix = "private/";

inline bool is_private_name(std::string_view name) { return name.starts_with(private_prefix); }

}  // namespace loopd
