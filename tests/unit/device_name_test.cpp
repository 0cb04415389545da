// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

// The message for a path that is refused; fails where it is taken.
std::string refusal_of(const std::string& path, const std::string& sys = "/sys") {
  try {
    ADD_FAILURE() << path << " was taken for loop" << loop_number_of(path, sys);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::not_a_loop_device) << path;
    return error.what();
  }
  return {};
}

TEST(ADevicePath, ToAnotherKindOfDeviceIsRefused) {
  for (const char* path : {"/dev/null", "/dev/zero", "/dev/", "/dev", "/dev/loop-control", "/dev/shm"})
    refusal_of(path);
}

TEST(ADevicePath, ThatLeavesDevIsRefusedWithoutTellingWhetherTheFileExists) {
  const TemporaryDirectory directory;
  directory.make_file("there", 1);
  auto without_path = [](std::string message, const std::string& path) {
    return message.replace(message.find(path), path.size(), "PATH");
  };
  const std::string there = "/dev/.." + directory.file("there");
  const std::string absent = "/dev/.." + directory.file("absent");
  EXPECT_EQ(without_path(refusal_of(there), there), without_path(refusal_of(absent), absent));
}

TEST(ADevicePath, OutsideDevIsRefusedBeforeItIsLookedAt) {
  for (const char* path : {"", "loop0", "dev/loop0", "/devloop0", "/proc/self/root/dev/loop0",
                           "/sys/block/loop0", "/tmp/../dev/loop0"}) {
    refusal_of(path);
  }
}

TEST(ADevicePath, ThatIsNotUtf8IsRefusedInUtf8) {
  EXPECT_NE(refusal_of("/dev/\xFF").find("\\xff"), std::string::npos);
}

// Needs some block device node to look at; its sysfs is made here.
TEST(ADevicePath, IsJudgedByWhatSysfsCallsTheNumber) {
  std::string node;
  for (const auto& entry : std::filesystem::directory_iterator("/dev")) {
    struct stat st {};
    if (::lstat(entry.path().c_str(), &st) == 0 && S_ISBLK(st.st_mode)) node = entry.path();
  }
  if (node.empty()) GTEST_SKIP() << "there is no block device in /dev";
  struct stat st {};
  ASSERT_EQ(::stat(node.c_str(), &st), 0);

  const TemporaryDirectory directory;
  std::filesystem::create_directories(directory.file("dev/block"));
  const std::string link = directory.file("dev/block/") + std::to_string(major(st.st_rdev)) + ":" +
                           std::to_string(minor(st.st_rdev));
  auto set_device = [&](const std::string& path) {
    std::filesystem::create_directories(directory.file(path));
    std::filesystem::remove(link);
    std::filesystem::create_directory_symlink(directory.file(path), link);
  };
  refusal_of(node, directory.path());
  set_device("devices/virtual/block/loop12");
  EXPECT_EQ(loop_number_of(node, directory.path()), 12U);
  EXPECT_EQ(loop_number_of("/dev/../dev/./" + node.substr(5), directory.path()), 12U);
  set_device("devices/virtual/block/loop12/loop12p3");
  EXPECT_EQ(loop_number_of(node, directory.path()), 12U) << "a partition's node leads to its device";
  set_device("devices/pci0000:00/block/sda");
  refusal_of(node, directory.path());
  set_device("devices/virtual/block/loop");
  refusal_of(node, directory.path());
  set_device("devices/virtual/block/loopy1");
  refusal_of(node, directory.path());
  set_device("devices/virtual/block/loop1x");
  refusal_of(node, directory.path());
}

}  // namespace
}  // namespace loop::testing
