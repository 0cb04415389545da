// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/method_table.hpp"

#include <array>

#include "dbus/names.hpp"

namespace loopd {
namespace {

constexpr std::array rules{
    MethodRule{manager_interface, "Attach", Action::attach},
    MethodRule{manager_interface, "AttachPath", Action::attach_path},
    MethodRule{manager_interface, "Probe", Action::attach},
    MethodRule{manager_interface, "GetDevice", Action::none},
    MethodRule{manager_interface, "FindByFile", Action::none},
    MethodRule{manager_interface, "FindByPath", Action::attach_path},
    MethodRule{manager_interface, "ListDevices", Action::none},
    MethodRule{device_interface, "Resize", Action::modify_others, true},
    MethodRule{device_interface, "ResizeWithOptions", Action::modify_others, true},
    MethodRule{device_interface, "SetAutoclear", Action::modify_others, true},
    MethodRule{device_interface, "SetDirectIO", Action::modify_others, true},
    MethodRule{device_interface, "RescanPartitions", Action::modify_others, true},
    MethodRule{device_interface, "Open", Action::open},
    MethodRule{device_interface, "Remove", Action::remove_others, true},
    MethodRule{device_interface, "RemoveWithOptions", Action::remove_others, true},
};

}  // namespace

const char* polkit_name(Action action) {
  switch (action) {
    case Action::none:
      return nullptr;
    case Action::attach:
      return "org.example.Loop1.attach";
    case Action::attach_path:
      return "org.example.Loop1.attach-path";
    case Action::modify_others:
      return "org.example.Loop1.modify-others";
    case Action::remove_others:
      return "org.example.Loop1.remove-others";
    case Action::open:
      return "org.example.Loop1.open";
    case Action::set_reference:
      return "org.example.Loop1.set-reference";
  }
  return nullptr;
}

std::span<const MethodRule> method_table() { return rules; }

const MethodRule* find_method(std::string_view interface, std::string_view member) {
  for (const MethodRule& rule : rules) {
    if (rule.member == member && (interface.empty() || rule.interface == interface)) return &rule;
  }
  return nullptr;
}

}  // namespace loopd
