// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "core/snapshot_reading.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/support/image.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

class ASnapshot : public ::testing::Test {
 protected:
  // Attaches a file of that name, and says what GET_STATUS64 would.
  DeviceSnapshot snapshot_of(const std::string& name, const char* reference = "", bool unlink = false) {
    const UniqueFd file = directory_.make_file(name, 64 * kib);
    if (unlink) ::unlink(directory_.file(name).c_str());
    kernel_.foreign_attach(3, file.get());
    auto snapshot = read_snapshot(kernel_, 3);
    EXPECT_TRUE(snapshot);
    loop_info64 info = kernel_.info(3);
    std::memcpy(info.lo_file_name, reference, ::strnlen(reference, LO_NAME_SIZE));
    apply_status(info, *snapshot);
    look_at_backing_file(*snapshot);
    return *snapshot;
  }
  TemporaryDirectory directory_;
  FakeLoopKernel kernel_;
};

TEST_F(ASnapshot, TellsWhatSysfsTells) {
  const UniqueFd file = directory_.make_file("image", 64 * kib);
  kernel_.foreign_attach(3, file.get(), LO_FLAGS_DIRECT_IO);
  const auto snapshot = read_snapshot(kernel_, 3);
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(snapshot->number, 3U);
  EXPECT_EQ(snapshot->dev_path(), "/dev/loop3");
  EXPECT_EQ(snapshot->dev, makedev(7, 3));
  EXPECT_EQ(snapshot->disk_sequence, kernel_.sequence(3));
  EXPECT_EQ(snapshot->backing_file, directory_.file("image"));
  EXPECT_EQ(snapshot->size, 64 * kib);
  EXPECT_EQ(snapshot->block_size, 512U);
  EXPECT_TRUE(snapshot->direct_io);
  EXPECT_FALSE(snapshot->read_only || snapshot->autoclear || snapshot->kernel_partition_scan);
  EXPECT_FALSE(snapshot->identified);
}

TEST_F(ASnapshot, IsNotTakenOfADeviceThatIsNotAttached) {
  EXPECT_FALSE(read_snapshot(kernel_, 3));
  EXPECT_FALSE(read_snapshot(kernel_, 77));
}

TEST_F(ASnapshot, KeepsEveryByteOfThePath) {
  for (const std::string& name :
       {std::string("line\nbreak"), std::string("ends in\n"), std::string("\xFF\xFE"),
        std::string("back\\slash"), std::string("space ")}) {
    EXPECT_EQ(snapshot_of(name).backing_file, directory_.file(name));
    kernel_.foreign_detach(3);
  }
}

TEST_F(ASnapshot, SaysThatTheFileWasDeleted) {
  const DeviceSnapshot snapshot = snapshot_of("image", "", true);
  EXPECT_TRUE(snapshot.backing_file_deleted);
  EXPECT_EQ(snapshot.backing_file, directory_.file("image"));
}

TEST_F(ASnapshot, TellsAFileCalledDeletedFromADeletedOne) {
  DeviceSnapshot snapshot = snapshot_of("image (deleted)");
  EXPECT_FALSE(snapshot.backing_file_deleted);
  EXPECT_EQ(snapshot.backing_file, directory_.file("image (deleted)"));
  ASSERT_TRUE(refresh_volatile(kernel_, snapshot));
  EXPECT_FALSE(snapshot.backing_file_deleted) << "forgotten by the next look";
  EXPECT_EQ(snapshot.backing_file, directory_.file("image (deleted)"));
}

TEST_F(ASnapshot, SaysThatAFileCalledDeletedWasDeletedAfterwards) {
  DeviceSnapshot snapshot = snapshot_of("image (deleted)");
  ::unlink(directory_.file("image (deleted)").c_str());
  ASSERT_TRUE(refresh_volatile(kernel_, snapshot));
  EXPECT_TRUE(snapshot.backing_file_deleted);
  EXPECT_EQ(snapshot.backing_file, directory_.file("image (deleted)"));
}

TEST_F(ASnapshot, TakesAPathForNoReference) {
  EXPECT_EQ(snapshot_of("one", "mine").reference, "mine");
  kernel_.foreign_detach(3);
  EXPECT_EQ(snapshot_of("two", "/var/lib/two").reference, "");  // losetup's way
  kernel_.foreign_detach(3);
  EXPECT_EQ(snapshot_of("three", "\xFF").reference, "\\xff");
  kernel_.foreign_detach(3);
  const std::string full(LO_NAME_SIZE, 'x');  // without a zero: anybody can write that
  EXPECT_EQ(snapshot_of("four", full.c_str()).reference, full);
}

TEST_F(ASnapshot, IdentifiesTheFile) {
  const DeviceSnapshot snapshot = snapshot_of("image");
  struct stat st {};
  ASSERT_EQ(::stat(directory_.file("image").c_str(), &st), 0);
  EXPECT_TRUE(snapshot.identified);
  EXPECT_EQ(snapshot.backing, (FileIdentity{false, st.st_dev, st.st_ino}));
}

TEST_F(ASnapshot, IdentifiesABlockDeviceByItsNumber) {
  DeviceSnapshot snapshot = snapshot_of("image");
  loop_info64 info = kernel_.info(3);
  info.lo_device = 5;  // devtmpfs
  info.lo_rdevice = makedev(8, 1);
  apply_status(info, snapshot);
  EXPECT_EQ(snapshot.backing, (FileIdentity{true, makedev(8, 1), 0}));
}

TEST_F(ASnapshot, FollowsWhatChangesWithoutAnEvent) {
  DeviceSnapshot snapshot = snapshot_of("image");
  std::unique_ptr<LoopNode> node;
  ASSERT_EQ(kernel_.open_node(3, NodeAccess::read_only, node), 0);
  ASSERT_EQ(node->set_direct_io(true), 0);
  ASSERT_TRUE(refresh_volatile(kernel_, snapshot));
  EXPECT_TRUE(snapshot.direct_io);
  node.reset();
  kernel_.foreign_detach(3);
  EXPECT_FALSE(refresh_volatile(kernel_, snapshot));
}

TEST_F(ASnapshot, FollowsOneFactAloneWhereNoOtherIsAskedFor) {
  DeviceSnapshot snapshot = snapshot_of("image");
  std::unique_ptr<LoopNode> node;
  ASSERT_EQ(kernel_.open_node(3, NodeAccess::read_only, node), 0);
  ASSERT_EQ(node->set_direct_io(true), 0);
  ASSERT_TRUE(refresh_volatile(kernel_, snapshot, Volatile::block_size));
  EXPECT_FALSE(snapshot.direct_io);
  ASSERT_TRUE(refresh_volatile(kernel_, snapshot, Volatile::direct_io));
  EXPECT_TRUE(snapshot.direct_io);
  node.reset();
  kernel_.foreign_detach(3);
  for (const Volatile what :
       {Volatile::backing_file, Volatile::autoclear, Volatile::direct_io, Volatile::block_size}) {
    EXPECT_FALSE(refresh_volatile(kernel_, snapshot, what)) << static_cast<int>(what);
  }
}

TEST_F(ASnapshot, NeverMixesTwoAttachments) {
  const UniqueFd first = directory_.make_file("first", 64 * kib);
  const UniqueFd second = directory_.make_file("second", 128 * kib);
  for (int index = 1;; ++index) {
    FakeLoopKernel kernel;
    kernel.foreign_attach(3, first.get());
    kernel.restart_counting();
    bool came = false;
    kernel.before(Call::attribute, [&](unsigned) {
      if (came || kernel.calls() != index) return;
      came = true;
      kernel.foreign_detach(3);
      kernel.foreign_attach(3, second.get(), LO_FLAGS_DIRECT_IO);
    });
    const auto snapshot = read_snapshot(kernel, 3);
    if (!came) break;
    ASSERT_TRUE(snapshot) << "at attribute " << index;
    const bool is_first = snapshot->backing_file == directory_.file("first");
    EXPECT_EQ(snapshot->size, is_first ? 64 * kib : 128 * kib) << "at attribute " << index;
    EXPECT_EQ(snapshot->direct_io, !is_first) << "at attribute " << index;
    if (!is_first) {
      EXPECT_EQ(snapshot->disk_sequence, kernel.sequence(3)) << "at attribute " << index;
    }
  }
}

TEST(ADeviceNumber, IsReadAsSysfsWritesIt) {
  EXPECT_EQ(parse_device_number("7:3"), makedev(7, 3));
  EXPECT_EQ(parse_device_number("259:1048575"), makedev(259, 1048575));
  EXPECT_EQ(parse_device_number(""), 0U);
  EXPECT_EQ(parse_device_number("rubbish"), 0U);
}

}  // namespace
}  // namespace loop::testing
