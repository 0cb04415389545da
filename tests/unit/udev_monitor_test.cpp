// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "core/udev_monitor.hpp"
#include "core/unique_fd.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

UniqueFd listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(socket.get(), 0), 0);
  return socket;
}

TEST(Udev, IsSeenAtItsControlSocket) {
  const TemporaryDirectory directory;
  const UniqueFd socket = listen_at(directory.file("control"));
  EXPECT_TRUE(udev_is_running(directory.file("control")));
  // Its queue is full: it is busy, which is not gone.
  EXPECT_TRUE(udev_is_running(directory.file("control")));
  EXPECT_TRUE(udev_is_running(directory.file("control")));
}

TEST(Udev, IsGoneWhereOnlyItsSocketIsLeft) {
  const TemporaryDirectory directory;
  listen_at(directory.file("control")).reset();
  ASSERT_EQ(::access(directory.file("control").c_str(), F_OK), 0);
  EXPECT_FALSE(udev_is_running(directory.file("control")));
}

TEST(Udev, IsNotSeenInAFile) {
  const TemporaryDirectory directory;
  directory.make_file("control", 0);
  EXPECT_FALSE(udev_is_running(directory.file("control")));
  EXPECT_FALSE(udev_is_running(directory.file("absent")));
  EXPECT_FALSE(udev_is_running(directory.file(std::string(200, 'x'))));
}

}  // namespace
}  // namespace loop::testing
