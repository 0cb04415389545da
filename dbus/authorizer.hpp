// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <sys/types.h>

#include <map>
#include <memory>
#include <string>

#include "dbus/caller.hpp"
#include "dbus/clientele.hpp"
#include "dbus/method_table.hpp"
#include "dbus/task.hpp"

namespace loopd {

// Asks polkit, without blocking anybody else. No polkit means no. uid 0 needs no
// answer. Event loop's thread only.
class Authorizer {
 public:
  // `connection` must outlive it.
  explicit Authorizer(sdbus::IConnection& connection);

  // As Clientele's.
  Task<void> require(Caller caller, Action action, AuthorizationDetails details);

 private:
  class Question;

  std::unique_ptr<sdbus::IProxy> authority_;
  std::map<uid_t, unsigned> open_questions_;
  unsigned open_in_all_ = 0;
};

}  // namespace loopd
