// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/failure.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "core/utf8.hpp"
#include "dbus/names.hpp"
#include "service/cli/text.hpp"

namespace loopctl {
namespace {

using namespace loopd;

constexpr std::array general_advice{
    Advice{error_name::access_denied, "root may, and who polkit's rules allow it to"},
    Advice{error_name::interactive_authorization_required,
           "run it on a terminal without --no-ask-password, or as root"},
    Advice{error_name::not_attached, "'loopctl list' shows what is"},
};

struct Code {
  const char* error;
  int exit_code;
};

constexpr std::array exit_codes{
    Code{error_name::access_denied, exit_denied},
    Code{error_name::interactive_authorization_required, exit_denied},
    Code{error_name::device_busy, exit_busy},
    Code{error_name::overlap, exit_busy},
    Code{error_name::file_not_found, exit_not_found},
    Code{error_name::not_a_loop_device, exit_not_found},
    Code{error_name::not_attached, exit_not_found},
    Code{error_name::unknown_object, exit_not_found},
    Code{error_name::stale, exit_not_found},
};

// Nobody answers, for one reason or another.
constexpr std::array<std::string_view, 6> no_service{
    "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",        "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.NoServer",       "org.freedesktop.DBus.Error.TimedOut",
};

bool is_no_service(std::string_view error) {
  return error.starts_with("org.freedesktop.DBus.Error.Spawn.") ||
         std::find(no_service.begin(), no_service.end(), error) != no_service.end();
}

const char* find_advice(std::span<const Advice> among, const std::string& error) {
  const auto found =
      std::find_if(among.begin(), among.end(), [&](const Advice& a) { return error == a.error; });
  return found == among.end() ? nullptr : found->text;
}

int exit_code_of(const std::string& error) {
  const auto found = std::find_if(exit_codes.begin(), exit_codes.end(),
                                  [&](const Code& code) { return error == code.error; });
  return found == exit_codes.end() ? exit_failed : found->exit_code;
}

}  // namespace

Failure failure_of(const std::string& what, const sdbus::Error& error, std::span<const Advice> advice) {
  const std::string name = error.getName();
  if (is_no_service(name)) {
    return {what, "loopd does not answer (" + error.getMessage() + "); see 'systemctl status loopd'",
            exit_no_service};
  }
  const char* text = find_advice(advice, name);
  if (text == nullptr) text = find_advice(general_advice, name);
  return {what, error.getMessage() + (text ? std::string("; ") + text : ""), exit_code_of(name)};
}

void complain(const std::string& message) {
  std::fflush(stdout);
  std::fprintf(stderr, "loopctl: %s\n", loop::printable(message).c_str());
}

}  // namespace loopctl
