// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "core/resizing.hpp"
#include "tests/kernel/real_loop_devices.hpp"

namespace loop::testing {
namespace {

class ARealResize : public RealLoopDevices {};

TEST_F(ARealResize, FollowsAFileThatHasGrown) {
  const AttachRequest plain = request(64 * kib);
  const DeviceSnapshot snapshot = attach(plain);
  write_at(plain.file.get(), 64 * kib, pattern(32 * kib, 5));
  const DeviceSizes sizes = resize(*kernel_, snapshot.number, snapshot.disk_sequence);
  EXPECT_EQ(sizes.before, 64 * kib);
  EXPECT_EQ(sizes.after, 96 * kib);
  EXPECT_EQ(read_at(open_device(snapshot).get(), 64 * kib, 64 * kib), pattern(32 * kib, 5));
  EXPECT_EQ(sysfs(snapshot.number, "size"), std::to_string(96 * kib / 512));
}

TEST_F(ARealResize, FollowsAFileThatHasShrunk) {
  const AttachRequest plain = request(64 * kib);
  const DeviceSnapshot snapshot = attach(plain);
  ASSERT_EQ(::ftruncate(plain.file.get(), 32 * kib), 0);
  EXPECT_EQ(resize(*kernel_, snapshot.number).after, 32 * kib);
}

TEST_F(ARealResize, GoesNotBeyondTheLimit) {
  AttachRequest limited = request(64 * kib);
  limited.size_limit = 48 * kib;
  const DeviceSnapshot snapshot = attach(limited);
  ASSERT_EQ(::ftruncate(limited.file.get(), 128 * kib), 0);
  EXPECT_EQ(resize(*kernel_, snapshot.number).after, 48 * kib);
}

TEST_F(ARealResize, LeavesPartitionsAlone) {
  AttachRequest scanned = request(8 * mib);
  scanned.number = private_number();
  scanned.partition_scan = PartitionScan::service;
  write_gpt(scanned.file.get(), 8 * mib, {{1 * mib, 4 * mib, "one"}});
  const DeviceSnapshot snapshot = attach(scanned);
  ASSERT_EQ(::ftruncate(scanned.file.get(), 12 * mib), 0);
  EXPECT_EQ(resize(*kernel_, snapshot.number).after, 12 * mib);
  EXPECT_EQ(kernel_->partitions(snapshot.number).size(), 1U);
}

TEST_F(ARealResize, IsRefusedWhereItWouldCutAPartition) {
  AttachRequest scanned = request(8 * mib);
  scanned.number = private_number();
  scanned.partition_scan = PartitionScan::service;
  write_gpt(scanned.file.get(), 8 * mib, {{1 * mib, 4 * mib, "one"}});
  const DeviceSnapshot snapshot = attach(scanned);
  ASSERT_EQ(::ftruncate(scanned.file.get(), 4 * mib), 0);
  EXPECT_EQ(error_of([&] { resize(*kernel_, snapshot.number); }), Errc::would_truncate);
  EXPECT_EQ(sysfs(snapshot.number, "size"), std::to_string(8 * mib / 512));
  ASSERT_EQ(::ftruncate(scanned.file.get(), 5 * mib), 0);  // just its end
  EXPECT_EQ(resize(*kernel_, snapshot.number).after, 5 * mib);
}

TEST_F(ARealResize, IsStaleWhereTheNumberWasReused) {
  AttachRequest chosen = request(64 * kib);
  chosen.number = private_number();
  const DeviceSnapshot first = attach(chosen);
  ASSERT_EQ(error_of([&] { remove(manager_, first.number, first.disk_sequence); }), std::nullopt) << message_;
  EXPECT_EQ(error_of([&] { resize(*kernel_, first.number, first.disk_sequence); }), Errc::not_attached);
  attach(chosen);
  EXPECT_EQ(error_of([&] { resize(*kernel_, first.number, first.disk_sequence); }), Errc::stale);
}

TEST_F(ARealResize, MayBeForcedToCutAPartition) {
  AttachRequest scanned = request(8 * mib);
  scanned.number = private_number();
  scanned.partition_scan = PartitionScan::service;
  write_gpt(scanned.file.get(), 8 * mib, {{1 * mib, 4 * mib, "one"}});
  const DeviceSnapshot snapshot = attach(scanned);
  ASSERT_EQ(::ftruncate(scanned.file.get(), 4 * mib), 0);
  EXPECT_EQ(resize(*kernel_, snapshot.number, 0, {.force = true}).after, 4 * mib);
}

TEST_F(ARealResize, SetsANewLimitFirst) {
  AttachRequest limited = request(64 * kib);
  limited.offset = 4096;
  limited.size_limit = 16 * kib;
  limited.reference = "stays";
  const DeviceSnapshot snapshot = attach(limited);
  EXPECT_EQ(resize(*kernel_, snapshot.number, 0, {.size_limit = 32 * kib}).after, 32 * kib);
  const Status status = status_of(snapshot);
  EXPECT_EQ(status.size_limit, 32 * kib);
  EXPECT_EQ(status.offset, 4096U);
  EXPECT_EQ(status.name, "stays");
  EXPECT_EQ(resize(*kernel_, snapshot.number, 0, {.size_limit = 0}).after, 60 * kib);
}

TEST_F(ARealResize, IsRefusedWhereItWouldCutAMountedFileSystem) {
  const AttachRequest plain = request(16 * mib);
  const DeviceSnapshot snapshot = attach(plain);
  make_ext4(snapshot.dev_path());
  if (HasFatalFailure() || IsSkipped()) return;
  const std::string mount_point = mount(snapshot.dev_path());
  ASSERT_EQ(::ftruncate(plain.file.get(), 8 * mib), 0);
  EXPECT_EQ(error_of([&] { resize(*kernel_, snapshot.number); }), Errc::would_truncate);
  EXPECT_EQ(sysfs(snapshot.number, "size"), std::to_string(16 * mib / 512));
  ASSERT_EQ(::ftruncate(plain.file.get(), 32 * mib), 0);
  EXPECT_EQ(resize(*kernel_, snapshot.number).after, 32 * mib) << "growing it is harmless";
  unmount(mount_point);
}

}  // namespace
}  // namespace loop::testing
