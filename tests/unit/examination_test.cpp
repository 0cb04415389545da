// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/examination.hpp"

#include <gtest/gtest.h>
#include <linux/loop.h>

#include <cerrno>
#include <optional>

#include "core/unique_fd.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/support/image.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

class AnExamination : public ::testing::Test {
 protected:
  AnExamination() { kernel_.foreign_attach(3, file_.get(), LO_FLAGS_READ_ONLY | LO_FLAGS_DIRECT_IO); }
  Examination identified() {
    auto examination = identify(kernel_, 3);
    EXPECT_TRUE(examination);
    return examination.value_or(Examination());
  }
  // Without what only the device tells.
  static DeviceSnapshot common(Examination examination) {
    DeviceSnapshot snapshot = std::move(examination.snapshot);
    snapshot.identified = false;
    snapshot.backing = FileIdentity();
    snapshot.backing_size = 0;
    return snapshot;
  }

  TemporaryDirectory directory_;
  UniqueFd file_ = directory_.make_file("image", 64 * kib);
  FakeLoopKernel kernel_;
};

TEST_F(AnExamination, BeginsWithWhatTellsWhomToAsk) {
  const Examination examination = identified();
  EXPECT_EQ(examination.snapshot.number, 3U);
  EXPECT_EQ(examination.snapshot.disk_sequence, kernel_.sequence(3));
  EXPECT_EQ(examination.snapshot.backing_file, directory_.file("image"));
  EXPECT_TRUE(examination.served_locally);
  EXPECT_FALSE(examination.complete);
  EXPECT_EQ(kernel_.open_nodes(), 0);
}

TEST_F(AnExamination, SaysTheSameByTheDeviceAndBySysfs) {
  Examination by_sysfs = identified();
  ASSERT_TRUE(examine(kernel_, by_sysfs));
  Examination by_device = identified();
  ASSERT_TRUE(describe(kernel_, by_device));
  EXPECT_TRUE(by_sysfs.complete && by_device.complete);
  EXPECT_FALSE(by_sysfs.snapshot.identified);
  EXPECT_TRUE(by_device.snapshot.identified);
  EXPECT_EQ(by_device.snapshot.backing_size, 64 * kib);
  EXPECT_EQ(common(by_device), common(by_sysfs));
  EXPECT_TRUE(by_sysfs.snapshot.read_only && by_sysfs.snapshot.direct_io);
  EXPECT_NE(by_sysfs.snapshot.dev, 0U);
}

TEST_F(AnExamination, OfADeviceThatRefusesSaysWhatSysfsTells) {
  Examination by_sysfs = identified();
  ASSERT_TRUE(examine(kernel_, by_sysfs));
  for (const Call refused : {Call::open_node, Call::status, Call::size, Call::block_size}) {
    SCOPED_TRACE(name_of(refused));
    kernel_.fail_always(refused, EIO);
    Examination examination = identified();
    EXPECT_TRUE(describe(kernel_, examination));
    EXPECT_TRUE(examination.complete);
    EXPECT_FALSE(examination.snapshot.identified);
    EXPECT_EQ(common(examination), common(by_sysfs));
    kernel_.fail_always(refused, 0);
  }
  EXPECT_EQ(kernel_.open_nodes(), 0);
}

TEST_F(AnExamination, EndsWhereTheDeviceIsAnotherAttachmentByNow) {
  const Examination before = identified();
  kernel_.foreign_detach(3);
  Examination free = before;
  EXPECT_FALSE(examine(kernel_, free));
  EXPECT_FALSE(describe(kernel_, free));
  kernel_.foreign_attach(3);
  Examination replaced = before;
  EXPECT_FALSE(examine(kernel_, replaced));
  EXPECT_FALSE(describe(kernel_, replaced));
  EXPECT_EQ(kernel_.open_nodes(), 0);
}

}  // namespace
}  // namespace loop::testing
