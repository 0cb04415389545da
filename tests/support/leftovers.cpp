// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/leftovers.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/unique_fd.hpp"

namespace loop::testing {
namespace {

// Whether tests that have ended, or this one, made the directory of this file.
bool is_left_over(const std::string& backing_file) {
  const std::string marker = "/loopd-test.";
  const auto found = backing_file.find(marker);
  if (found == std::string::npos) return false;
  const auto owner = static_cast<pid_t>(std::atol(backing_file.c_str() + found + marker.size()));
  return owner <= 0 || owner == ::getpid() || (::kill(owner, 0) < 0 && errno == ESRCH);
}

class NoLeftovers final : public ::testing::Environment {
 public:
  void SetUp() override { before_ = leftover_devices(); }
  void TearDown() override {
    // One that udev is just probing goes with udev's close, which nothing tells.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (!new_ones().empty() && std::chrono::steady_clock::now() < deadline) ::poll(nullptr, 0, 5);
    for (const std::string& device : new_ones()) ADD_FAILURE() << device << " was left attached";
  }

 private:
  std::vector<std::string> new_ones() const {
    std::vector<std::string> found = leftover_devices();
    std::erase_if(found, [this](const std::string& device) {
      return std::find(before_.begin(), before_.end(), device) != before_.end();
    });
    return found;
  }

  std::vector<std::string> before_;
};

constexpr unsigned static_devices = 8;  // the driver's default

bool device_exists(unsigned number) {
  return std::filesystem::exists("/sys/block/loop" + std::to_string(number));
}

class SameStaticDevicesAsBefore final : public ::testing::Environment {
 public:
  void SetUp() override {
    for (unsigned number = 0; number < static_devices; ++number) {
      if (device_exists(number)) before_.push_back(number);
    }
  }
  void TearDown() override {
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (!control) return;  // not root: nothing was removed
    for (const unsigned number : before_) ::ioctl(control.get(), LOOP_CTL_ADD, number);
  }

 private:
  std::vector<unsigned> before_;
};

}  // namespace

std::vector<std::string> leftover_devices() {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block", error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("loop")) continue;
    std::ifstream file(entry.path() / "loop/backing_file");
    std::string backing_file;
    if (std::getline(file, backing_file) && is_left_over(backing_file)) {
      found.push_back("/dev/" + name + " (" + backing_file + ")");
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

void check_leftovers_at_end() { ::testing::AddGlobalTestEnvironment(new NoLeftovers); }

void restore_static_devices_at_end() { ::testing::AddGlobalTestEnvironment(new SameStaticDevicesAsBefore); }

}  // namespace loop::testing
