// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/udisks.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "tests/bus/scratch.hpp"

namespace bus_test {
namespace {

// Where udisksd writes and mounts.
constexpr std::array directories{"/run/udisks2", "/var/lib/udisks2", "/run/media", "/media"};

std::vector<std::string> make_directories() {
  std::vector<std::string> made;
  for (const std::string directory : directories) {
    if (::mkdir(directory.c_str(), 0755) == 0) made.push_back(directory);
  }
  return made;
}

// What it remembers and mounts goes with its mount namespace.
int become_udisksd(const std::string& bus_address) {
  if (::unshare(CLONE_NEWNS) < 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) {
    return 126;
  }
  for (const char* directory : directories) {
    if (::mount("tmpfs", directory, "tmpfs", 0, nullptr) < 0) return 126;
  }
  ::setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address.c_str(), 1);
  ::execl("/usr/libexec/udisks2/udisksd", "udisksd", nullptr);
  return 127;
}

}  // namespace

UDisks::UDisks(const std::string& bus_address)
    : made_(make_directories()),
      process_({.body = [bus_address] { return become_udisksd(bus_address); },
                .log = scratch_directory() + "/udisksd.log"}) {}

UDisks::~UDisks() {
  process_.terminate();
  for (const std::string& directory : made_) ::rmdir(directory.c_str());
}

}  // namespace bus_test
