// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "core/device_name.hpp"
#include "tests/kernel/real_loop_devices.hpp"

namespace loop::testing {
namespace {

class RealPartitions : public RealLoopDevices {
 protected:
  AttachRequest partitioned_request(uint64_t size = 16 * mib) {
    AttachRequest scanned = request(size);
    scanned.partition_scan = PartitionScan::service;
    scanned.number = private_number();
    return scanned;
  }
  std::vector<PartitionExtent> partitions_of(const DeviceSnapshot& snapshot) const {
    return kernel_->partitions(snapshot.number);
  }
  std::string contents(const DeviceSnapshot& snapshot, unsigned partition, uint64_t length) const {
    const UniqueFd fd(
        ::open((snapshot.dev_path() + "p" + std::to_string(partition)).c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(fd) << "no node of partition " << partition;
    return fd ? read_at(fd.get(), 0, length) : std::string();
  }
};

const std::vector<GptPartition> five{{1 * mib, 1 * mib, "one"},
                                     {2 * mib, 2 * mib, "two"},
                                     {4 * mib, 1 * mib, "three"},
                                     {6 * mib, 4 * mib, "four"},
                                     {10 * mib, 1 * mib, "five"}};

std::vector<PartitionExtent> extents_of(const std::vector<GptPartition>& partitions) {
  std::vector<PartitionExtent> extents;
  for (const GptPartition& partition : partitions) {
    extents.push_back({static_cast<unsigned>(extents.size()) + 1, partition.offset, partition.size});
  }
  return extents;
}

TEST_F(RealPartitions, OfAGptAreThereWhenAttachReturns) {
  const AttachRequest scanned = partitioned_request();
  write_gpt(scanned.file.get(), 16 * mib, five);
  for (const GptPartition& partition : five) write_at(scanned.file.get(), partition.offset, partition.name);
  Attachment attachment = manager_.attach(scanned);
  remember(attachment.snapshot());
  attachment.commit();
  const DeviceSnapshot snapshot = attachment.snapshot();
  EXPECT_TRUE(attachment.record().keeps_partitions);
  ASSERT_EQ(attachment.partitions().size(), 5U);
  EXPECT_EQ(attachment.partitions()[3].name, "four");
  EXPECT_EQ(partitions_of(snapshot), extents_of(five));
  for (unsigned i = 0; i < five.size(); ++i) {
    EXPECT_EQ(contents(snapshot, i + 1, five[i].name.size()), five[i].name);
    EXPECT_EQ(loop_number_of(snapshot.dev_path() + "p" + std::to_string(i + 1)), snapshot.number);
  }
}

TEST_F(RealPartitions, StayWhenTheDeviceIsOpenedAndClosedForWriting) {
  const AttachRequest scanned = partitioned_request();
  write_gpt(scanned.file.get(), 16 * mib, five);
  const DeviceSnapshot snapshot = attach(scanned);
  for (int i = 0; i < 5; ++i) {
    open_device(snapshot, O_RDWR);
    open_device(snapshot);
  }
  EXPECT_EQ(partitions_of(snapshot), extents_of(five));
}

TEST_F(RealPartitions, OfAnMbrAreThereWithItsLogicals) {
  const AttachRequest scanned = partitioned_request();
  write_mbr(scanned.file.get(), {{1 * mib, 1 * mib}, {2 * mib, 2 * mib}},
            {{6 * mib, 1 * mib}, {9 * mib, 2 * mib}});
  write_at(scanned.file.get(), 9 * mib, "logical");
  const DeviceSnapshot snapshot = attach(scanned);
  EXPECT_EQ(partitions_of(snapshot), (std::vector<PartitionExtent>{{1, 1 * mib, 1 * mib},
                                                                   {2, 2 * mib, 2 * mib},
                                                                   {3, 5 * mib, 1024},
                                                                   {5, 6 * mib, 1 * mib},
                                                                   {6, 9 * mib, 2 * mib}}));
  EXPECT_EQ(contents(snapshot, 6, 7), "logical");
}

TEST_F(RealPartitions, Of4096ByteSectorsAreThere) {
  AttachRequest scanned = partitioned_request();
  scanned.block_size = 4096;
  write_gpt(scanned.file.get(), 16 * mib, five, 4096);
  EXPECT_EQ(partitions_of(attach(scanned)), extents_of(five));
}

TEST_F(RealPartitions, BehindAnOffsetAreThere) {
  AttachRequest scanned = partitioned_request(20 * mib);
  scanned.offset = 4 * mib;
  const UniqueFd table = memory_file(16 * mib);
  write_gpt(table.get(), 16 * mib, five);
  write_at(scanned.file.get(), 4 * mib, read_at(table.get(), 0, 16 * mib));
  EXPECT_EQ(partitions_of(attach(scanned)), extents_of(five));
}

TEST_F(RealPartitions, OfAReadOnlyDeviceAreThere) {
  AttachRequest scanned = partitioned_request();
  scanned.read_only = true;
  write_gpt(scanned.file.get(), 16 * mib, five);
  EXPECT_EQ(partitions_of(attach(scanned)), extents_of(five));
}

TEST_F(RealPartitions, BeyondTheEndOfATruncatedImageAreLeftOut) {
  const AttachRequest scanned = partitioned_request();
  write_mbr(scanned.file.get(),
            {{1 * mib, 1 * mib}, {2 * mib, 2 * mib}, {6 * mib, 4 * mib}, {12 * mib, 2 * mib}});
  ASSERT_EQ(::ftruncate(scanned.file.get(), 7 * mib), 0);
  EXPECT_EQ(partitions_of(attach(scanned)),
            (std::vector<PartitionExtent>{{1, 1 * mib, 1 * mib}, {2, 2 * mib, 2 * mib}}));
}

TEST_F(RealPartitions, OfATruncatedGptDoNotKeepTheFileFromBeingAttached) {
  const AttachRequest scanned = partitioned_request();
  write_gpt(scanned.file.get(), 16 * mib, five);
  ASSERT_EQ(::ftruncate(scanned.file.get(), 7 * mib), 0);
  EXPECT_EQ(attach(scanned).size, 7 * mib);
}

TEST_F(RealPartitions, AreNotAddedUnlessTheyAreAskedFor) {
  AttachRequest plain = partitioned_request();
  plain.partition_scan = PartitionScan::none;
  write_gpt(plain.file.get(), 16 * mib, five);
  EXPECT_TRUE(partitions_of(attach(plain)).empty());
}

TEST_F(RealPartitions, VanishWithARemovalAlsoWhereTheNodeIsKept) {
  const AttachRequest scanned = partitioned_request();
  write_gpt(scanned.file.get(), 16 * mib, five);
  const DeviceSnapshot snapshot = attach(scanned);
  const std::string name = "loop" + std::to_string(snapshot.number);
  ASSERT_TRUE(node_exists(name + "p5"));
  ASSERT_EQ(error_of([&] { remove(manager_, snapshot.number, snapshot.disk_sequence, {.keep_node = true}); }),
            std::nullopt)
      << message_;
  EXPECT_TRUE(partitions_of(snapshot).empty());
  EXPECT_FALSE(node_exists(name + "p5"));
  EXPECT_TRUE(node_exists(name));
}

TEST_F(RealPartitions, LeftByAForeignDetachAreDeleted) {
  constexpr int attempts = 20;
  const AttachRequest scanned = partitioned_request();
  write_gpt(scanned.file.get(), 16 * mib, five);
  size_t left = 0;
  // A kernel that looks for partitions itself drops these when somebody opens the device next: udev, perhaps.
  for (int attempt = 0; attempt < attempts && left == 0; ++attempt) {
    const DeviceSnapshot snapshot = attach(scanned);
    ASSERT_EQ(::ioctl(open_device(snapshot).get(), LOOP_CLR_FD), 0);
    ASSERT_TRUE(comes_true([&] { return !kernel_->has_attribute(snapshot.number, "loop"); }));
    left = partitions_of(snapshot).size();
    manager_.delete_leftover_partitions(snapshot.number);
    EXPECT_TRUE(partitions_of(snapshot).empty());
  }
  EXPECT_EQ(left, 5U) << "there was nothing to be deleted";
}

TEST_F(RealPartitions, OfAnEarlierFileAreNotInherited) {
  const AttachRequest scanned = partitioned_request();
  write_gpt(scanned.file.get(), 16 * mib, five);
  const DeviceSnapshot snapshot = attach(scanned);
  ASSERT_EQ(::ioctl(open_device(snapshot).get(), LOOP_CLR_FD), 0);
  ASSERT_TRUE(comes_true([&] { return !kernel_->has_attribute(snapshot.number, "loop"); }));
  AttachRequest next = request(16 * mib);
  next.number = snapshot.number;
  EXPECT_TRUE(partitions_of(attach(next)).empty());
}

TEST_F(RealPartitions, AreGoneWhenAnAttachmentIsNotCommitted) {
  const AttachRequest scanned = partitioned_request();
  write_gpt(scanned.file.get(), 16 * mib, five);
  { const Attachment attachment = manager_.attach(scanned); }
  EXPECT_TRUE(node_is_gone(*scanned.number));
  EXPECT_FALSE(node_exists("loop" + std::to_string(*scanned.number) + "p1"));
}

}  // namespace
}  // namespace loop::testing
