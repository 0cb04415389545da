// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/object_path.hpp"

#include <gtest/gtest.h>

namespace loopd {
namespace {

TEST(AnObjectPath, NamesADeviceOrAPartition) {
  const auto device = parse_path("/org/example/Loop1/loop0");
  ASSERT_TRUE(device);
  EXPECT_EQ(device->device, 0U);
  EXPECT_FALSE(device->partition);
  const auto partition = parse_path("/org/example/Loop1/loop1048575/p128");
  ASSERT_TRUE(partition);
  EXPECT_EQ(partition->device, 1048575U);
  EXPECT_EQ(partition->partition, 128U);
}

TEST(AnObjectPath, HasOneSpelling) {
  for (const char* other :
       {"", "/", "/org/example/Loop1", "/org/example/Loop1/", "/org/example/Loop1/loop",
        "/org/example/Loop1/loop03", "/org/example/Loop1/loop+3", "/org/example/Loop1/loop-3",
        "/org/example/Loop1/loop3x", "/org/example/Loop1/loop3/", "/org/example/Loop1/loop3/p",
        "/org/example/Loop1/loop3/p01", "/org/example/Loop1/loop3/p1/p1", "/org/example/Loop1/loop3/1",
        "/org/example/Loop1/loop4294967296", "/org/example/Loop1/Loop3", "/org/example/Loop2/loop3"}) {
    EXPECT_FALSE(parse_path(other)) << other;
  }
}

}  // namespace
}  // namespace loopd
