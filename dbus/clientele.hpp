// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <map>
#include <string>

#include "dbus/caller.hpp"
#include "dbus/method_table.hpp"
#include "dbus/task.hpp"

namespace loopd {

// What polkit's rules may look at.
using AuthorizationDetails = std::map<std::string, std::string>;

// The clients of one connection: of the system bus, or the one at the other end
// of a private one. Lives as long as a call that came over it is under way, also
// when the connection itself is gone. Event loop's thread only.
class Clientele {
 public:
  virtual ~Clientele() = default;

  // Names of clients are unique below this, for ever: a bus's id, or this run of
  // the service.
  virtual const std::string& id() const = 0;

  // Has called, and has not left.
  virtual bool is_known(const std::string& name) const = 0;

  // Returns if the caller may. Throws AccessDenied,
  // InteractiveAuthorizationRequired, or LimitsExceeded where too many questions
  // are open. What was looked at before may have changed after it.
  virtual Task<void> require(Caller caller, Action action, AuthorizationDetails details) = 0;
};

}  // namespace loopd
