// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>

#include <cstdint>

#include "core/overlap.hpp"

namespace loop::testing {
namespace {

DeviceSnapshot device(uint64_t offset, uint64_t size_limit, bool read_only = false) {
  DeviceSnapshot snapshot;
  snapshot.identified = true;
  snapshot.backing = {false, 5, 7};
  snapshot.offset = offset;
  snapshot.size_limit = size_limit;
  snapshot.read_only = read_only;
  return snapshot;
}

TEST(ARange, WithoutALimitHasAnOpenEnd) {
  EXPECT_EQ(range_of(4096, 0), (MappedRange{4096, UINT64_MAX}));
  EXPECT_EQ(range_of(4096, 512), (MappedRange{4096, 4608}));
  EXPECT_EQ(range_of(4096, UINT64_MAX), (MappedRange{4096, UINT64_MAX})) << "it wraps";
}

TEST(ARange, ThatIsAdjacentDoesNotConflict) {
  EXPECT_FALSE(conflicts(device(0, 4096), range_of(4096, 4096), false));
  EXPECT_FALSE(conflicts(device(4096, 4096), range_of(0, 4096), false));
  EXPECT_FALSE(conflicts(device(4096, 0), range_of(0, 4096), false));
}

TEST(ARange, ThatSharesOneByteConflictsUnlessNobodyWrites) {
  EXPECT_TRUE(conflicts(device(0, 4097), range_of(4096, 4096), false));
  EXPECT_TRUE(conflicts(device(0, 0), range_of(1 << 20, 512), false)) << "it may grow with the file";
  EXPECT_TRUE(conflicts(device(0, 0), range_of(0, 0), true)) << "the other one writes";
  EXPECT_TRUE(conflicts(device(0, 0, true), range_of(0, 0), false)) << "this one writes";
  EXPECT_FALSE(conflicts(device(0, 0, true), range_of(0, 0), true));
}

TEST(ADevice, MapsAFileByItsIdentityAlone) {
  EXPECT_TRUE(maps_file(device(0, 0), {false, 5, 7}));
  EXPECT_FALSE(maps_file(device(0, 0), {false, 5, 8}));
  EXPECT_FALSE(maps_file(device(0, 0), {false, 6, 7}));
  EXPECT_FALSE(maps_file(device(0, 0), {true, 5, 7}));
  DeviceSnapshot unknown = device(0, 0);
  unknown.identified = false;
  EXPECT_FALSE(maps_file(unknown, {false, 5, 7}));
}

}  // namespace
}  // namespace loop::testing
