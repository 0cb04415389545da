// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <span>
#include <string_view>

namespace loopd {

// What polkit is asked.
enum class Action {
  none,  // everyone may
  attach,
  attach_path,
  modify_others,
  remove_others,
  open,
  set_reference,
};

// Polkit's name of the action; null for none.
const char* polkit_name(Action action);

struct MethodRule {
  const char* interface;
  const char* member;
  Action action;
  bool owner_may = false;  // who attached the device needs no authorization
};

// Every method of the contract beside its action. A call of a method that is not
// in this table is refused before it reaches an object.
std::span<const MethodRule> method_table();

// Null where there is none. An empty interface (D-Bus allows it) matches any.
const MethodRule* find_method(std::string_view interface, std::string_view member);

}  // namespace loopd
