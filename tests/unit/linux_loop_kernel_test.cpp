// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the real kernel is asked for by sysfs, on a tree of files.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "core/loop_kernel.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop {
namespace {

class Sysfs : public ::testing::Test {
 protected:
  void add_device() {
    std::filesystem::create_directories(block_ + "/loop5/loop");
    std::ofstream(block_ + "/loop5/loop/backing_file") << "/srv/a.img\n";
  }

  // The kernel deletes the directory with the last device.
  void delete_all() { std::filesystem::remove_all(block_); }

  testing::TemporaryDirectory directory_;
  std::string block_ = directory_.file("devices/virtual/block");
};

TEST_F(Sysfs, IsReadWhenTheLastDeviceHasGoneAndAnotherOneHasCome) {
  add_device();
  const auto kernel = make_linux_loop_kernel("/dev", directory_.file(""));
  EXPECT_EQ(kernel->attribute(5, "loop/backing_file"), "/srv/a.img");
  delete_all();
  EXPECT_FALSE(kernel->has_attribute(5, "loop"));
  EXPECT_EQ(kernel->numbers(), std::vector<unsigned>{});
  add_device();
  EXPECT_TRUE(kernel->has_attribute(5, "loop"));
  EXPECT_EQ(kernel->attribute(5, "loop/backing_file"), "/srv/a.img");
  EXPECT_EQ(kernel->numbers(), std::vector<unsigned>{5});
}

TEST_F(Sysfs, ListsTheDevicesThatHavePartitions) {
  for (const char* name : {"loop5", "loop7p1", "loop7p12", "loop12", "sda1", "loopback", "nvme0n1p1"}) {
    std::filesystem::create_directories(directory_.file("class/block/") + name);
  }
  EXPECT_EQ(make_linux_loop_kernel("/dev", directory_.file(""))->partitioned(), std::set<unsigned>{7});
}

TEST_F(Sysfs, IsReadWhenTheFirstDeviceComesLaterThanTheService) {
  std::filesystem::create_directories(directory_.file("devices/virtual"));
  const auto kernel = make_linux_loop_kernel("/dev", directory_.file(""));
  EXPECT_FALSE(kernel->has_attribute(5, "loop"));
  add_device();
  EXPECT_EQ(kernel->attribute(5, "loop/backing_file"), "/srv/a.img");
}

}  // namespace
}  // namespace loop
