// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/device_name.hpp"
#include "core/snapshot_reading.hpp"
#include "tests/kernel/real_loop_devices.hpp"

namespace loop::testing {
namespace {

class ARealAttachment : public RealLoopDevices {};

TEST_F(ARealAttachment, WithoutOptionsMapsTheWholeFile) {
  AttachRequest plain = request(1 * mib);
  write_at(plain.file.get(), 0, pattern(1 * mib));
  const DeviceSnapshot snapshot = attach(plain);
  const UniqueFd device = open_device(snapshot);
  EXPECT_EQ(read_at(device.get(), 0, 2 * mib), pattern(1 * mib));
}

TEST_F(ARealAttachment, TellsWhatItIs) {
  const AttachRequest plain = request(1 * mib);
  struct stat file {};
  ASSERT_EQ(::fstat(plain.file.get(), &file), 0);
  const DeviceSnapshot snapshot = attach(plain);
  struct stat node {};
  ASSERT_EQ(::stat(snapshot.dev_path().c_str(), &node), 0);
  EXPECT_TRUE(S_ISBLK(node.st_mode));
  EXPECT_EQ(snapshot.dev, node.st_rdev);
  EXPECT_EQ(snapshot.dev_path(), "/dev/loop" + std::to_string(snapshot.number));
  EXPECT_EQ(snapshot.backing_file, directory_.file("image1"));
  EXPECT_FALSE(snapshot.backing_file_deleted);
  EXPECT_TRUE(snapshot.identified);
  EXPECT_EQ(snapshot.backing, (FileIdentity{false, file.st_dev, file.st_ino}));
  EXPECT_EQ(snapshot.size, 1 * mib);
  EXPECT_EQ(snapshot.block_size, 512U);
  EXPECT_EQ(snapshot.reference, "");
  EXPECT_FALSE(snapshot.read_only || snapshot.autoclear || snapshot.direct_io ||
               snapshot.kernel_partition_scan);
  EXPECT_EQ(std::to_string(snapshot.disk_sequence), sysfs(snapshot.number, "diskseq"));
  EXPECT_EQ(loop_number_of(snapshot.dev_path()), snapshot.number);
}

TEST_F(ARealAttachment, IsSeenTheSameBySysfs) {
  AttachRequest everything = request(1 * mib);
  everything.offset = 4096;
  everything.size_limit = 64 * kib;
  everything.read_only = true;
  const DeviceSnapshot attached = attach(everything);
  auto seen = read_snapshot(*kernel_, attached.number);
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->disk_sequence, attached.disk_sequence);
  EXPECT_EQ(seen->dev, attached.dev);
  EXPECT_EQ(seen->backing_file, attached.backing_file);
  EXPECT_EQ(seen->size, attached.size);
  EXPECT_EQ(seen->offset, attached.offset);
  EXPECT_EQ(seen->size_limit, attached.size_limit);
  EXPECT_EQ(seen->block_size, attached.block_size);
  EXPECT_EQ(seen->read_only, attached.read_only);
  EXPECT_EQ(seen->autoclear, attached.autoclear);
  EXPECT_EQ(seen->direct_io, attached.direct_io);
}

TEST_F(ARealAttachment, LeavesNoDescriptorOpen) {
  AttachRequest plain = request();
  const DeviceSnapshot snapshot = attach(plain);
  plain.file.reset();
  EXPECT_GE(open_device(snapshot, O_EXCL).get(), 0) << "somebody holds it exclusively";
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(open_device(snapshot));
  EXPECT_EQ(error_of([&] { remove(manager_, snapshot.number, snapshot.disk_sequence); }), std::nullopt)
      << message_;
}

TEST_F(ARealAttachment, WritesIntoItsFile) {
  const AttachRequest plain = request(64 * kib);
  const DeviceSnapshot snapshot = attach(plain);
  const UniqueFd device = open_device(snapshot, O_RDWR);
  write_at(device.get(), 4096, pattern(4096, 7));
  ASSERT_EQ(::fsync(device.get()), 0);
  EXPECT_EQ(read_at(plain.file.get(), 4096, 4096), pattern(4096, 7));
}

TEST_F(ARealAttachment, ThatIsReadOnlyCannotBeWritten) {
  AttachRequest read_only = request(64 * kib);
  read_only.read_only = true;
  const DeviceSnapshot snapshot = attach(read_only);
  EXPECT_TRUE(snapshot.read_only);
  EXPECT_EQ(sysfs(snapshot.number, "ro"), "1");
  const UniqueFd device = open_device(snapshot, O_RDWR);
  if (device) {
    EXPECT_LT(::write(device.get(), "x", 1), 0);
  }
  EXPECT_EQ(read_at(read_only.file.get(), 0, 1), std::string(1, '\0'));
}

TEST_F(ARealAttachment, OfAReadOnlyDescriptorIsReadOnlyOrRefused) {
  request(64 * kib);  // makes image1
  AttachRequest readable =
      request_for(UniqueFd(::open(directory_.file("image1").c_str(), O_RDONLY | O_CLOEXEC)));
  EXPECT_EQ(error_of([&] { attach(readable); }), Errc::not_writable);
  readable.read_only = true;
  EXPECT_TRUE(attach(readable).read_only);
}

TEST_F(ARealAttachment, MapsTheRangeThatWasAsked) {
  AttachRequest ranged = request(64 * kib);
  write_at(ranged.file.get(), 0, pattern(64 * kib));
  ranged.offset = 4096;
  ranged.size_limit = 2048;
  ranged.block_size = 512;
  const DeviceSnapshot snapshot = attach(ranged);
  EXPECT_EQ(snapshot.size, 2048U);
  EXPECT_EQ(snapshot.offset, 4096U);
  EXPECT_EQ(snapshot.size_limit, 2048U);
  EXPECT_EQ(snapshot.block_size, 512U);
  const UniqueFd device = open_device(snapshot);
  EXPECT_EQ(read_at(device.get(), 0, 64 * kib), pattern(64 * kib).substr(4096, 2048));
}

TEST_F(ARealAttachment, SharesItsFileWithAnotherRange) {
  AttachRequest first = request(4 * mib);
  write_at(first.file.get(), 0, pattern(4 * mib));
  AttachRequest second = request_for(UniqueFd(::fcntl(first.file.get(), F_DUPFD_CLOEXEC, 0)));
  first.size_limit = 1 * mib;
  second.offset = 1 * mib;
  second.size_limit = 3 * mib;
  const UniqueFd low = open_device(attach(first));
  const UniqueFd high = open_device(attach(second));
  EXPECT_EQ(read_at(low.get(), 0, 4 * mib), pattern(4 * mib).substr(0, 1 * mib));
  EXPECT_EQ(read_at(high.get(), 0, 4 * mib), pattern(4 * mib).substr(1 * mib));
}

TEST_F(ARealAttachment, DropsATailOfLessThanASector) { EXPECT_EQ(attach_new(64 * kib + 511).size, 64 * kib); }

TEST_F(ARealAttachment, HasBlocksOf4096BytesWhereThatIsAsked) {
  AttachRequest large = request(1 * mib);
  large.block_size = 4096;
  const DeviceSnapshot snapshot = attach(large);
  EXPECT_EQ(snapshot.block_size, 4096U);
  int reported = 0;
  ASSERT_EQ(::ioctl(open_device(snapshot).get(), BLKSSZGET, &reported), 0);
  EXPECT_EQ(reported, 4096);
}

TEST_F(ARealAttachment, LeavesNoDeviceBehindAfterABadBlockSize) {
  AttachRequest bad = request();
  bad.number = private_number();
  bad.block_size = 3;
  EXPECT_EQ(error_of([&] { attach(bad); }), Errc::invalid_argument);
  EXPECT_TRUE(node_is_gone(*bad.number));
}

TEST_F(ARealAttachment, TellsWhetherDirectIoIsReallyUsed) {
  for (const uint64_t offset : {0U, 100U}) {  // no disk takes the latter; a tmpfs on 6.12 does
    AttachRequest direct = request(1 * mib);
    direct.direct_io = true;
    direct.offset = offset;
    const DeviceSnapshot snapshot = attach(direct);
    EXPECT_EQ(snapshot.direct_io, sysfs(snapshot.number, "loop/dio") == "1") << "at " << offset;
  }
}

TEST_F(ARealAttachment, CarriesItsReference) {
  AttachRequest named = request();
  named.reference = std::string(62, 'r');
  const DeviceSnapshot snapshot = attach(named);
  EXPECT_EQ(snapshot.reference, named.reference);
  EXPECT_EQ(status_of(snapshot).name, named.reference);
}

TEST_F(ARealAttachment, TakesTheChosenNumberAndNoOtherWhereItIsInUse) {
  AttachRequest chosen = request();
  chosen.number = private_number();
  const DeviceSnapshot snapshot = attach(chosen);
  EXPECT_EQ(snapshot.number, *chosen.number);
  const Status before = status_of(snapshot);
  AttachRequest second = request();
  second.number = *chosen.number;
  EXPECT_EQ(error_of([&] { manager_.attach(second); }), Errc::device_busy);
  EXPECT_TRUE(still_attached(snapshot));
  EXPECT_EQ(status_of(snapshot), before);
}

TEST_F(ARealAttachment, MayHaveABlockDeviceBehindIt) {
  AttachRequest lower = request(4 * mib);
  write_at(lower.file.get(), 0, pattern(4 * mib));
  const DeviceSnapshot below = attach(lower);
  AttachRequest upper = request_for(open_device(below, O_RDWR));
  upper.offset = 1 * mib;
  upper.size_limit = 1 * mib;
  const DeviceSnapshot above = attach(upper);
  EXPECT_EQ(above.backing_file, below.dev_path());
  EXPECT_EQ(above.backing, (FileIdentity{true, below.dev, 0}));
  EXPECT_EQ(read_at(open_device(above).get(), 0, 4 * mib), pattern(4 * mib).substr(1 * mib, 1 * mib));
  upper.file.reset();
  EXPECT_EQ(error_of([&] { remove(manager_, above.number, above.disk_sequence); }), std::nullopt) << message_;
}

TEST_F(ARealAttachment, OfALoopDeviceWithoutAFileIsRefused) {
  AttachRequest lower = request();
  lower.number = private_number();
  const DeviceSnapshot below = attach(lower);
  ASSERT_EQ(error_of([&] { remove(manager_, below.number, below.disk_sequence, {.keep_node = true}); }),
            std::nullopt)
      << message_;
  EXPECT_EQ(error_of([&] { attach(request_for(open_device(below, O_RDWR))); }), Errc::invalid_argument)
      << message_;
}

TEST_F(ARealAttachment, OfALoopDeviceOntoItselfIsRefused) {
  AttachRequest lower = request();
  lower.number = private_number();
  const DeviceSnapshot below = attach(lower);
  AttachRequest upper = request_for(open_device(below, O_RDWR));
  upper.number = below.number;
  EXPECT_NE(error_of([&] { manager_.attach(upper); }), std::nullopt);
  EXPECT_TRUE(still_attached(below));
}

TEST_F(ARealAttachment, OfADeletedFileSaysSo) {
  const AttachRequest plain = request();
  ASSERT_EQ(::unlink(directory_.file("image1").c_str()), 0);
  const DeviceSnapshot snapshot = attach(plain);
  EXPECT_TRUE(snapshot.backing_file_deleted);
  EXPECT_EQ(snapshot.backing_file, directory_.file("image1"));
}

TEST_F(ARealAttachment, KeepsEveryByteOfThePath) {
  const std::string name = "line\nbreak \xFF\\ (deleted)\n";
  const DeviceSnapshot snapshot = attach(request_for(directory_.make_file(name, 64 * kib)));
  EXPECT_EQ(snapshot.backing_file, directory_.file(name));
  EXPECT_FALSE(snapshot.backing_file_deleted);
}

TEST_F(ARealAttachment, IsUndoneWhenItIsNotCommitted) {
  AttachRequest chosen = request();
  chosen.number = private_number();
  const std::string name = "loop" + std::to_string(*chosen.number);
  {
    const Attachment attachment = manager_.attach(chosen);
    EXPECT_TRUE(still_attached(attachment.snapshot()));
    EXPECT_TRUE(node_exists(name));
  }
  EXPECT_TRUE(node_is_gone(*chosen.number));
  EXPECT_TRUE(records_.all().empty() && records_.intents().empty());
}

TEST_F(ARealAttachment, IsUndoneWhenItIsNotCommittedAlsoWithAutoclear) {
  AttachRequest chosen = request();
  chosen.number = private_number();
  chosen.autoclear = true;
  { const Attachment attachment = manager_.attach(chosen); }
  EXPECT_TRUE(node_is_gone(*chosen.number));
  EXPECT_TRUE(records_.all().empty() && records_.intents().empty());
}

TEST_F(ARealAttachment, WithAutoclearLivesAsLongAsItsHolder) {
  AttachRequest fleeting = request();
  fleeting.autoclear = true;
  Attachment attachment = manager_.attach(fleeting);
  remember(attachment.snapshot());
  attachment.commit();
  const DeviceSnapshot snapshot = attachment.snapshot();
  EXPECT_TRUE(snapshot.autoclear);
  EXPECT_EQ(sysfs(snapshot.number, "loop/autoclear"), "1");
  std::unique_ptr<LoopNode> holder = attachment.take_holder();
  ASSERT_TRUE(holder);
  open_device(snapshot);  // and closes it: not the last one
  EXPECT_TRUE(still_attached(snapshot));
  holder.reset();
  // udev may be looking, and is the last one then.
  EXPECT_TRUE(comes_true([&] { return !still_attached(snapshot); }));
}

TEST_F(ARealAttachment, FollowsADetachAtOnce) {
  AttachRequest chosen = request();
  chosen.number = private_number();
  uint64_t last = 0;
  for (int i = 0; i < 20; ++i) {
    const DeviceSnapshot snapshot = attach(chosen);
    EXPECT_GT(snapshot.disk_sequence, last);
    last = snapshot.disk_sequence;
    ASSERT_EQ(error_of([&] { remove(manager_, snapshot.number, last, {.keep_node = i % 2 == 0}); }),
              std::nullopt)
        << message_;
    EXPECT_FALSE(kernel_->has_attribute(snapshot.number, "loop"));
  }
}

TEST_F(ARealAttachment, GetsADeviceOfItsOwnInEachOfManyThreads) {
  constexpr int threads = 8;
  constexpr int each = 25;
  std::mutex mutex;
  std::set<unsigned> in_use;
  std::vector<std::string> complaints;
  std::vector<UniqueFd> files;
  for (int i = 0; i < threads; ++i) {
    files.push_back(directory_.make_file("thread" + std::to_string(i), 64 * kib));
    write_at(files.back().get(), 0, pattern(4096, static_cast<unsigned>(i)));
  }
  auto complain = [&](const std::string& text) {
    const std::lock_guard lock(mutex);
    complaints.push_back(text);
  };
  auto work = [&](int thread) {
    for (int i = 0; i < each; ++i) {
      try {
        AttachRequest own;
        own.file.reset(::fcntl(files[static_cast<size_t>(thread)].get(), F_DUPFD_CLOEXEC, 0));
        Attachment attachment = manager_.attach(own);
        const DeviceSnapshot snapshot = attachment.snapshot();
        {
          const std::lock_guard lock(mutex);
          remember(snapshot);
          if (!in_use.insert(snapshot.number).second) complaints.push_back("one device for two threads");
        }
        attachment.commit();
        if (read_at(open_device(snapshot).get(), 0, 4096) != pattern(4096, static_cast<unsigned>(thread))) {
          complain("another thread's file");
        }
        {
          const std::lock_guard lock(mutex);
          in_use.erase(snapshot.number);
        }
        // In use by nobody but udev: patience for its probing of many at once.
        remove(manager_, snapshot.number, snapshot.disk_sequence, {}, std::chrono::seconds(10));
        if (still_attached(snapshot)) complain("attached after the removal");
      } catch (const Error& error) {
        complain(error.what());
      }
    }
  };
  {
    std::vector<std::jthread> running;
    for (int thread = 0; thread < threads; ++thread) running.emplace_back(work, thread);
  }
  EXPECT_EQ(complaints, std::vector<std::string>());
  EXPECT_TRUE(records_.all().empty() && records_.intents().empty());
}

TEST_F(ARealAttachment, GetsADeviceOfItsOwnInEachOfManyProcesses) {
  constexpr unsigned processes = 4;
  constexpr int each = 10;
  std::vector<std::string> files;
  for (unsigned i = 0; i < processes; ++i) {
    files.push_back(directory_.file("process" + std::to_string(i)));
    write_at(directory_.make_file("process" + std::to_string(i), 64 * kib).get(), 0, pattern(4096, i));
  }
  std::vector<std::unique_ptr<ChildProcess>> children;
  for (unsigned i = 0; i < processes; ++i) {
    children.push_back(std::make_unique<ChildProcess>([&, i](const auto& report_ready) {
      const auto kernel = make_linux_loop_kernel();
      LoopManager manager(*kernel);
      report_ready();
      for (int round = 0; round < each; ++round) {
        AttachRequest own;
        own.file.reset(::open(files[i].c_str(), O_RDWR | O_CLOEXEC));
        Attachment attachment = manager.attach(own);
        const DeviceSnapshot snapshot = attachment.snapshot();
        UniqueFd device(::open(snapshot.dev_path().c_str(), O_RDONLY | O_CLOEXEC));
        if (read_at(device.get(), 0, 4096) != pattern(4096, i)) ::_exit(2);
        device.reset();  // it would hold what is to be removed
        attachment.commit();
        remove(manager, snapshot.number, snapshot.disk_sequence, {}, std::chrono::seconds(10));
      }
    }));
  }
  for (const auto& child : children) EXPECT_EQ(child->wait(), 0) << "1: an error, 2: another process's file";
}

TEST_F(ARealAttachment, ByTheKernelsOwnScanIsAvailable) {
  AttachRequest scanned = request(4 * mib);
  scanned.partition_scan = PartitionScan::kernel;
  const DeviceSnapshot snapshot = attach(scanned);
  EXPECT_TRUE(snapshot.kernel_partition_scan);
  EXPECT_EQ(sysfs(snapshot.number, "loop/partscan"), "1");
}

}  // namespace
}  // namespace loop::testing
