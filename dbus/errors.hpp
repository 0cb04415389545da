// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <exception>
#include <string>

namespace loopd {

// What this layer itself refuses.
[[noreturn]] void throw_invalid(const std::string& message);
[[noreturn]] void throw_denied(const std::string& message);
[[noreturn]] void throw_limits(const std::string& message);

// Any exception as the error that the caller sees: the one place where names are
// given to core's errors.
sdbus::Error to_bus_error(const std::exception_ptr& exception);

}  // namespace loopd
