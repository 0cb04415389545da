// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/error.hpp"

#include <cerrno>
#include <system_error>
#include <utility>

namespace loop {

Error::Error(Errc code, std::string message) : code_(code), message_(std::move(message)) {}

Error::Error(Errc code, int error_number, const std::string& context)
    : code_(error_number == ETIME ? Errc::timeout : code),
      error_number_(error_number),
      message_(context + ": " + errno_text(error_number)) {}

const char* Error::what() const noexcept { return message_.c_str(); }

std::string errno_text(int error_number) { return std::generic_category().message(error_number); }

}  // namespace loop
