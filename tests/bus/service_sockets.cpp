// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/service_sockets.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <system_error>

namespace bus_test {

namespace {

loop::UniqueFd bound_socket(const std::string& path, int type) {
  loop::UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error("too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ::unlink(path.c_str());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
    throw std::system_error(errno, std::generic_category(), path);
  }
  return socket;
}

}  // namespace

loop::UniqueFd make_notify_socket(const std::string& path) { return bound_socket(path, SOCK_DGRAM); }

loop::UniqueFd make_private_socket(const std::string& path) {
  loop::UniqueFd socket = bound_socket(path, SOCK_STREAM);
  if (::chmod(path.c_str(), 0600) < 0 || ::listen(socket.get(), 128) < 0) {
    throw std::system_error(errno, std::generic_category(), path);
  }
  return socket;
}

bool wait_for_ready(ChildProcess& process, int notifications) {
  const auto deadline = Clock::now() + long_enough;
  while (Clock::now() < deadline && process.running()) {
    pollfd waited{notifications, POLLIN, 0};
    if (::poll(&waited, 1, 100) <= 0) continue;  // looks whether it has died, now and then
    std::array<char, 4096> buffer{};
    const ssize_t got = ::recv(notifications, buffer.data(), buffer.size() - 1, 0);
    if (got <= 0) continue;
    std::istringstream lines(std::string(buffer.data(), static_cast<size_t>(got)));
    for (std::string line; std::getline(lines, line);) {
      if (line == "READY=1") return true;
    }
  }
  return false;
}

}  // namespace bus_test
