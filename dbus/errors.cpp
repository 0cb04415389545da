// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/errors.hpp"

#include <new>

#include "core/error.hpp"
#include "core/utf8.hpp"
#include "dbus/names.hpp"

namespace loopd {
namespace {

const char* name_of(loop::Errc code) {
  switch (code) {
    case loop::Errc::invalid_argument:
      return error_name::invalid_args;
    case loop::Errc::not_supported:
      return error_name::not_supported;
    case loop::Errc::not_writable:
      return error_name::not_writable;
    case loop::Errc::device_busy:
      return error_name::device_busy;
    case loop::Errc::not_a_loop_device:
      return error_name::not_a_loop_device;
    case loop::Errc::not_attached:
      return error_name::not_attached;
    case loop::Errc::overlap:
      return error_name::overlap;
    case loop::Errc::stale:
      return error_name::stale;
    case loop::Errc::would_truncate:
      return error_name::would_truncate;
    case loop::Errc::no_free_device:
      return error_name::no_free_device;
    case loop::Errc::file_not_found:
      return error_name::file_not_found;
    case loop::Errc::timeout:
      return error_name::timeout;
    case loop::Errc::limits_exceeded:
      return error_name::limits_exceeded;
    case loop::Errc::failed:
      return error_name::failed;
  }
  return error_name::failed;
}

sdbus::Error make(const char* name, const std::string& message) {
  // A message that is no UTF-8 would not be sent at all.
  return {sdbus::Error::Name(name), loop::is_utf8(message) ? message : loop::escape_to_utf8(message)};
}

}  // namespace

void throw_invalid(const std::string& message) { throw make(error_name::invalid_args, message); }
void throw_denied(const std::string& message) { throw make(error_name::access_denied, message); }
void throw_limits(const std::string& message) { throw make(error_name::limits_exceeded, message); }

sdbus::Error to_bus_error(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const loop::Error& error) {
    return make(name_of(error.code()), error.what());
  } catch (const sdbus::Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return make(error_name::limits_exceeded, "out of memory");
  } catch (const std::exception& error) {
    return make(error_name::failed, error.what());
  } catch (...) {
    return make(error_name::failed, "unknown failure");
  }
}

}  // namespace loopd
