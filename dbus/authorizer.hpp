// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <sys/types.h>

#include <map>
#include <memory>
#include <string>

#include "dbus/caller.hpp"
#include "dbus/method_table.hpp"
#include "dbus/task.hpp"

namespace loopd {

// Asks polkit, without blocking anybody else. No polkit means no. uid 0 needs no
// answer. Event loop's thread only.
class Authorizer {
 public:
  using Details = std::map<std::string, std::string>;

  // `connection` must outlive it.
  explicit Authorizer(sdbus::IConnection& connection);

  // Returns if the caller may. Throws AccessDenied,
  // InteractiveAuthorizationRequired, or LimitsExceeded where too many questions
  // are open. What was looked at before may have changed after it.
  Task<void> require(Caller caller, Action action, Details details);

 private:
  class Question;

  std::unique_ptr<sdbus::IProxy> authority_;
  std::map<uid_t, unsigned> open_questions_;
  unsigned open_in_all_ = 0;
};

}  // namespace loopd
