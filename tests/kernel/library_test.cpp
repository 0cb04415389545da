// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libloopdev.so through its public face, on real loop devices. Needs root.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/loopdev.hpp"
#include "tests/support/image.hpp"
#include "tests/support/leftovers.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

[[maybe_unused]] const bool environments = [] {
  check_leftovers_at_end();
  restore_static_devices_at_end();
  return true;
}();

class ALoopDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  }

  // Where a test has failed halfway, its devices still go.
  void TearDown() override {
    for (LoopDevice& device : attached_) {
      try {
        device.remove({.lazy = true});
      } catch (const Error&) {
        // Removed by the test; what is left is reported at the end.
      }
    }
  }

  AttachRequest request(uint64_t size = 64 * kib) {
    AttachRequest made;
    made.file = directory_.make_file("image" + std::to_string(++files_), size);
    return made;
  }

  LoopDevice attach(const AttachRequest& request) {
    LoopDevice device = LoopDevice::attach(request);
    attached_.push_back(LoopDevice::open(device.dev_path()));
    return device;
  }

  std::optional<Errc> error_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      message_ = error.what();
      return error.code();
    }
    return std::nullopt;
  }

  static bool exists(const LoopDevice& device) { return std::filesystem::exists(device.dev_path()); }

  // Removes it, and sees that it is gone.
  void remove(LoopDevice& device) {
    const std::string sysfs = "/sys/block/loop" + std::to_string(device.number()) + "/loop";
    EXPECT_EQ(error_of([&] { device.remove(); }), std::nullopt) << message_;
    EXPECT_FALSE(std::filesystem::exists(sysfs));
    EXPECT_EQ(error_of([&] { device.snapshot(); }), Errc::not_attached);
  }

  TemporaryDirectory directory_;
  std::string message_;

 private:
  int files_ = 0;
  std::vector<LoopDevice> attached_;
};

TEST_F(ALoopDevice, TellsWhatItIs) {
  const AttachRequest plain = request();
  LoopDevice device = attach(plain);
  struct stat node {};
  ASSERT_EQ(::stat(device.dev_path().c_str(), &node), 0);
  EXPECT_TRUE(S_ISBLK(node.st_mode));
  EXPECT_EQ(device.dev_path(), "/dev/loop" + std::to_string(device.number()));
  EXPECT_EQ(device.dev(), node.st_rdev);
  EXPECT_EQ(device.backing_file(), directory_.file("image1"));
  remove(device);
}

TEST_F(ALoopDevice, WithoutOptionsMapsTheWholeFileForReadingAndWriting) {
  const AttachRequest plain = request();
  write_at(plain.file.get(), 0, pattern(64 * kib));
  LoopDevice device = attach(plain);
  {
    const UniqueFd node = device.open_node(true);
    EXPECT_EQ(read_at(node.get(), 0, 128 * kib), pattern(64 * kib));
    write_at(node.get(), 4096, pattern(4096, 7));
    EXPECT_EQ(::fsync(node.get()), 0);
  }
  EXPECT_EQ(read_at(plain.file.get(), 4096, 4096), pattern(4096, 7));
  const DeviceSnapshot snapshot = device.snapshot();
  EXPECT_EQ(snapshot.size, 64 * kib);
  EXPECT_FALSE(snapshot.read_only || snapshot.direct_io || snapshot.autoclear);
  remove(device);
}

TEST_F(ALoopDevice, MayUseDirectIO) {
  AttachRequest direct = request();
  direct.direct_io = true;
  LoopDevice device = attach(direct);
  const bool possible = device.snapshot().direct_io;
  EXPECT_EQ(error_of([&] { device.set_direct_io(false); }), std::nullopt) << message_;
  EXPECT_FALSE(device.snapshot().direct_io);
  EXPECT_EQ(error_of([&] { device.set_direct_io(true); }),
            possible ? std::nullopt : std::optional(Errc::not_supported));
  EXPECT_EQ(device.snapshot().direct_io, possible);
  remove(device);
}

TEST_F(ALoopDevice, ThatIsReadOnlyCannotBeWritten) {
  AttachRequest read_only = request();
  read_only.read_only = true;
  LoopDevice device = attach(read_only);
  EXPECT_TRUE(device.snapshot().read_only);
  EXPECT_EQ(error_of([&] { device.open_node(true); }), Errc::not_writable);
  {
    const UniqueFd node(::open(device.dev_path().c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_TRUE(!node || ::write(node.get(), "x", 1) < 0);
  }
  remove(device);
}

TEST_F(ALoopDevice, MapsTheRangeThatIsAskedFor) {
  AttachRequest range = request();
  range.block_size = 512;
  range.size_limit = 2048;
  range.offset = 4096;
  range.reference = "of-the-library";
  write_at(range.file.get(), 0, pattern(64 * kib));
  LoopDevice device = attach(range);
  const DeviceSnapshot snapshot = device.snapshot();
  EXPECT_EQ(snapshot.block_size, 512U);
  EXPECT_EQ(snapshot.size, 2048U);
  EXPECT_EQ(snapshot.size_limit, 2048U);
  EXPECT_EQ(snapshot.offset, 4096U);
  EXPECT_EQ(snapshot.reference, "of-the-library");
  EXPECT_EQ(read_at(device.open_node(false).get(), 0, 64 * kib), pattern(64 * kib).substr(4096, 2048));
  remove(device);
}

TEST_F(ALoopDevice, IsNothingElse) {
  EXPECT_EQ(error_of([] { LoopDevice::open("/dev/null"); }), Errc::not_a_loop_device);
  EXPECT_EQ(error_of([] { LoopDevice::open("/dev/loop-control"); }), Errc::not_a_loop_device);
  EXPECT_EQ(error_of([] { LoopDevice::open("/dev/no-such-device"); }), Errc::not_a_loop_device);
  EXPECT_EQ(error_of([&] { LoopDevice::open(directory_.path()); }), Errc::not_a_loop_device);
}

TEST_F(ALoopDevice, OutlivesItsObjectAndIsOpenedAgain) {
  std::string dev_path;
  uint64_t sequence = 0;
  {
    const LoopDevice device = attach(request());
    dev_path = device.dev_path();
    sequence = device.disk_sequence();
  }
  {
    const LoopDevice again = LoopDevice::open(dev_path);
    EXPECT_EQ(again.disk_sequence(), sequence);
    EXPECT_EQ(again.backing_file(), directory_.file("image1"));
  }
  LoopDevice last = LoopDevice::open(dev_path);
  EXPECT_EQ(last.disk_sequence(), sequence);
  remove(last);
}

TEST_F(ALoopDevice, FollowsAFileThatHasGrown) {
  const AttachRequest growing = request(64 * kib);
  LoopDevice device = attach(growing);
  write_at(growing.file.get(), 64 * kib, pattern(32 * kib));
  EXPECT_EQ(device.snapshot().size, 64 * kib);
  const DeviceSizes sizes = device.refresh_size();
  EXPECT_EQ(sizes.before, 64 * kib);
  EXPECT_EQ(sizes.after, 96 * kib);
  EXPECT_EQ(device.snapshot().size, 96 * kib);
  remove(device);
}

TEST_F(ALoopDevice, HasItsPartitionsWhenItIsThere) {
  AttachRequest scanned = request(8 * mib);
  write_gpt(scanned.file.get(), 8 * mib, {{1 * mib, 2 * mib, "first"}, {4 * mib, 1 * mib, "second"}});
  scanned.partition_scan = PartitionScan::service;
  LoopDevice device = attach(scanned);
  const std::vector<KnownPartition> partitions = device.partitions();
  ASSERT_EQ(partitions.size(), 2U);
  EXPECT_EQ(partitions[0].entry.extent, (PartitionExtent{1, 1 * mib, 2 * mib}));
  EXPECT_EQ(partitions[0].entry.name, "first");
  EXPECT_EQ(partitions[1].entry.extent, (PartitionExtent{2, 4 * mib, 1 * mib}));
  struct stat node {};
  ASSERT_EQ(::stat((device.dev_path() + "p2").c_str(), &node), 0);
  EXPECT_EQ(partitions[1].dev, node.st_rdev);
  EXPECT_EQ(error_of([&] { LoopDevice::open(device.dev_path() + "p1"); }), Errc::not_a_loop_device);

  write_gpt(scanned.file.get(), 8 * mib, {{1 * mib, 2 * mib, "first"}});
  EXPECT_EQ(error_of([&] { device.rescan_partitions(); }), std::nullopt) << message_;
  EXPECT_EQ(device.partitions().size(), 1U);
  remove(device);
  EXPECT_NE(::stat((device.dev_path() + "p1").c_str(), &node), 0);
}

TEST_F(ALoopDevice, IsFoundByItsFileAndListed) {
  AttachRequest first = request();
  AttachRequest second = copy_of(first);
  AttachRequest other = request();
  for (AttachRequest* read_only : {&first, &second}) read_only->read_only = true;
  LoopDevice one = attach(first);
  LoopDevice two = attach(second);
  LoopDevice three = attach(other);

  const UniqueFd looked_up(::open(directory_.file("image1").c_str(), O_PATH | O_CLOEXEC));
  std::vector<unsigned> found;
  for (const LoopDevice& device : LoopDevice::find(looked_up.get())) found.push_back(device.number());
  EXPECT_EQ(found, (std::vector<unsigned>{two.number(), one.number()})) << "newest first";

  std::vector<unsigned> all;
  for (const LoopDevice& device : LoopDevice::all()) all.push_back(device.number());
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
  for (const LoopDevice* device : {&one, &two, &three}) {
    EXPECT_NE(std::find(all.begin(), all.end(), device->number()), all.end());
  }
  remove(one);
  remove(two);
  remove(three);
  EXPECT_TRUE(LoopDevice::find(looked_up.get()).empty());
}

TEST_F(ALoopDevice, ThatIsHeldOpenIsBusyAndUnchanged) {
  LoopDevice device = attach(request());
  UniqueFd node = device.open_node(false);
  const DeviceSnapshot before = device.snapshot();
  EXPECT_EQ(error_of([&] { device.remove(); }), Errc::device_busy);
  EXPECT_NE(message_.find(before.dev_path().substr(5)), std::string::npos) << message_;
  EXPECT_EQ(device.snapshot(), before);
  node.reset();
  remove(device);
}

TEST_F(ALoopDevice, WithAutoclearIsHeldByItsObject) {
  AttachRequest fleeting = request();
  fleeting.autoclear = true;
  LoopDevice device = attach(fleeting);
  EXPECT_TRUE(device.snapshot().autoclear);
  UniqueFd node = device.open_node(false);
  EXPECT_EQ(error_of([&] { device.remove(); }), Errc::device_busy);
  EXPECT_TRUE(device.snapshot().autoclear) << "nothing has changed";
  device.release();
  EXPECT_EQ(device.backing_file(), directory_.file("image1")) << "it is still open";
  node.reset();
}

TEST_F(ALoopDevice, WithAutoclearMayBeRemoved) {
  AttachRequest fleeting = request();
  fleeting.autoclear = true;
  LoopDevice device = attach(fleeting);
  remove(device);
  EXPECT_FALSE(exists(device));
}

TEST_F(ALoopDevice, IsNotMistakenForTheNextAttachmentOfItsNumber) {
  AttachRequest chosen = request();
  chosen.number = 30'000 + static_cast<unsigned>(::getpid() % 10'000);
  LoopDevice first = attach(chosen);
  const LoopDevice same = LoopDevice::open(first.dev_path());
  remove(first);
  LoopDevice second = attach(chosen);
  EXPECT_EQ(error_of([&] { same.snapshot(); }), Errc::stale);
  EXPECT_EQ(error_of([&] { first.remove(); }), Errc::stale);
  EXPECT_EQ(error_of([&] { first.refresh_size(); }), Errc::stale);
  remove(second);
}

TEST_F(ALoopDevice, IsAttachedByManyThreadsAtOnce) {
  constexpr size_t threads = 8;
  std::vector<AttachRequest> requests;
  for (size_t i = 0; i < threads; ++i) requests.push_back(request());
  std::vector<std::optional<LoopDevice>> devices(threads);
  std::vector<std::thread> running;
  for (size_t i = 0; i < threads; ++i) {
    running.emplace_back([&, i] { devices[i] = LoopDevice::attach(requests[i]); });
  }
  for (std::thread& thread : running) thread.join();
  for (size_t i = 0; i < threads; ++i) {
    EXPECT_EQ(devices[i]->backing_file(), directory_.file("image" + std::to_string(i + 1)));
    remove(*devices[i]);
  }
}

TEST_F(ALoopDevice, CanBeProbedWithoutAttaching) {
  const AttachRequest scanned = request(8 * mib);
  write_gpt(scanned.file.get(), 8 * mib, {{1 * mib, 2 * mib, "only"}});
  const ImageFacts facts = probe_image(scanned);
  EXPECT_EQ(facts.size, 8 * mib);
  EXPECT_EQ(facts.table_type, "gpt");
  EXPECT_EQ(facts.partitions, 1U);
  EXPECT_EQ(facts.format, "raw");
  EXPECT_TRUE(LoopDevice::find(scanned.file.get()).empty());
}

}  // namespace
}  // namespace loop::testing
