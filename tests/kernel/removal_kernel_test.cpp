// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <linux/loop.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "core/holders.hpp"
#include "tests/kernel/real_loop_devices.hpp"

namespace loop::testing {
namespace {

using namespace std::chrono_literals;

class ARealRemoval : public RealLoopDevices {
 protected:
  // A device that has everything that a refusal could lose.
  DeviceSnapshot attach_described(uint64_t size = 16 * mib) {
    AttachRequest described = request(size);
    write_at(described.file.get(), size - 4096, pattern(4096, 3));
    described.number = private_number();
    described.reference = "described";
    described.size_limit = size;
    return attach(described);
  }

  std::optional<Errc> remove_error(const DeviceSnapshot& snapshot, RemovalOptions options = {},
                                   std::chrono::milliseconds patience = probing_patience) {
    return error_of([&] { remove(manager_, snapshot.number, snapshot.disk_sequence, options, patience); });
  }

  // Refused, naming the holder; and everything is as before, now and when the
  // holder has gone.
  void expect_refused(const DeviceSnapshot& snapshot, const std::string& holder,
                      const std::function<void()>& let_go) {
    const Status before = status_of(snapshot);
    const auto partitions = kernel_->partitions(snapshot.number);
    EXPECT_EQ(remove_error(snapshot), Errc::device_busy);
    EXPECT_NE(message_.find(holder), std::string::npos) << message_;
    EXPECT_TRUE(still_attached(snapshot));
    EXPECT_EQ(status_of(snapshot), before);
    EXPECT_EQ(sysfs(snapshot.number, "loop/autoclear"), "0");
    EXPECT_EQ(kernel_->partitions(snapshot.number), partitions);
    let_go();
    EXPECT_TRUE(still_attached(snapshot)) << "it vanished with its last holder";
    EXPECT_EQ(status_of(snapshot), before);
    EXPECT_EQ(read_at(open_device(snapshot).get(), snapshot.size - 4096, 4096), pattern(4096, 3));
    EXPECT_EQ(remove_error(snapshot, {}, 5s), std::nullopt) << message_;
  }

  void expect_gone(const DeviceSnapshot& snapshot) {
    EXPECT_FALSE(still_attached(snapshot));
    EXPECT_TRUE(node_is_gone(snapshot.number));
    EXPECT_FALSE(node_exists("loop" + std::to_string(snapshot.number) + "p1"));
    EXPECT_TRUE(kernel_->partitions(snapshot.number).empty());
    EXPECT_FALSE(records_.find(snapshot.disk_sequence));
  }
};

TEST_F(ARealRemoval, LeavesNoNodeNoSysfsAndNoRecord) {
  const DeviceSnapshot snapshot = attach_described();
  ASSERT_TRUE(records_.find(snapshot.disk_sequence));
  EXPECT_EQ(remove_error(snapshot), std::nullopt) << message_;
  expect_gone(snapshot);
  const auto again = remove_error(snapshot);
  EXPECT_TRUE(again == Errc::not_attached || again == Errc::stale) << "the second time: " << message_;
}

// A writer that closes while others have the device open writes nothing back, and since 6.11 the
// kernel lets nothing through any more once its only opener detaches.
TEST_F(ARealRemoval, LosesNothingThatNobodyHasWrittenBack) {
  AttachRequest wanted = request(1 * mib);
  const UniqueFd file(::dup(wanted.file.get()));
  wanted.number = private_number();
  const DeviceSnapshot snapshot = attach(wanted);
  UniqueFd other = open_device(snapshot);
  UniqueFd writer = open_device(snapshot, O_RDWR);
  Removal removal(manager_, snapshot.number, snapshot.disk_sequence, {});
  ASSERT_EQ(removal.attempt(), Removal::State::busy);
  write_at(writer.get(), 64 * kib, pattern(4096, 7));
  writer.reset();
  other.reset();
  // udev looks at what a writer has closed.
  ASSERT_TRUE(comes_true([&] { return removal.attempt() == Removal::State::detached; }));
  removal.finish(deadline_in(finish_patience));
  EXPECT_EQ(read_at(file.get(), 64 * kib, 4096), pattern(4096, 7));
}

TEST_F(ARealRemoval, IsRefusedWhileTheDeviceIsMounted) {
  const DeviceSnapshot snapshot = attach_described();
  make_ext4(snapshot.dev_path());
  if (HasFatalFailure() || IsSkipped()) return;
  write_at(open_device(snapshot, O_RDWR).get(), snapshot.size - 4096, pattern(4096, 3));
  const std::string mount_point = mount(snapshot.dev_path());
  expect_refused(snapshot, "mounted at " + mount_point, [&] { unmount(mount_point); });
  expect_gone(snapshot);
}

// With fusermount everybody has a file system mounted from whatever name they like.
TEST_F(ARealRemoval, TakesNobodysWordForAMount) {
  const DeviceSnapshot snapshot = attach_described();
  const UniqueFd server(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(server) << "no FUSE";
  const std::string point = directory_.file("fuse");
  ASSERT_EQ(::mkdir(point.c_str(), 0700), 0);
  const std::string facts = "fd=" + std::to_string(server.get()) + ",rootmode=40000,user_id=0,group_id=0";
  ASSERT_EQ(::mount(snapshot.dev_path().c_str(), point.c_str(), "fuse", 0, facts.c_str()), 0);
  EXPECT_FALSE(is_used(*kernel_, snapshot.number));
  EXPECT_EQ(::umount2(point.c_str(), MNT_DETACH), 0);
}

TEST_F(ARealRemoval, IsRefusedWhileItIsSwappedTo) {
  const DeviceSnapshot snapshot = attach_described();
  write_swap_header(open_device(snapshot, O_RDWR).get(), snapshot.size);
  start_swap(snapshot.dev_path());
  if (HasFatalFailure()) return;
  expect_refused(snapshot, "swap", [&] { stop_swap(snapshot.dev_path()); });
}

TEST_F(ARealRemoval, IsRefusedWhileAProcessHasItOpen) {
  const DeviceSnapshot snapshot = attach_described();
  ChildProcess holder([&](const auto& report_ready) {
    const UniqueFd fd = open_device(snapshot);
    report_ready();
    ::pause();
  });
  expect_refused(snapshot, "process " + std::to_string(holder.pid()), [&] { holder.end(); });
}

TEST_F(ARealRemoval, IsRefusedWhileAProcessHasAPartitionOpen) {
  AttachRequest scanned = request(16 * mib);
  scanned.number = private_number();
  scanned.partition_scan = PartitionScan::service;
  write_gpt(scanned.file.get(), 16 * mib, {{1 * mib, 1 * mib, "one"}, {2 * mib, 1 * mib, "two"}});
  write_at(scanned.file.get(), 16 * mib - 4096, pattern(4096, 3));
  const DeviceSnapshot snapshot = attach(scanned);
  ChildProcess holder([&](const auto& report_ready) {
    const UniqueFd fd(::open((snapshot.dev_path() + "p2").c_str(), O_RDONLY | O_CLOEXEC));
    report_ready();
    ::pause();
  });
  expect_refused(snapshot, "loop" + std::to_string(snapshot.number) + "p2", [&] { holder.end(); });
  expect_gone(snapshot);
}

TEST_F(ARealRemoval, IsRefusedUnderAnotherLoopDevice) {
  const DeviceSnapshot below = attach_described();
  AttachRequest upper = request_for(open_device(below, O_RDWR));
  upper.number = private_number();
  const DeviceSnapshot above = attach(upper);
  upper.file.reset();
  expect_refused(below, "loop" + std::to_string(above.number),
                 [&] { EXPECT_EQ(remove_error(above), std::nullopt) << message_; });
  expect_gone(below);
}

TEST_F(ARealRemoval, SucceedsWhenAProcessLetsGoOnceDuringTheWait) {
  // Whoever has it open closes it exactly once: if the removal missed that, no
  // second event would tell it. IN_CLOSE comes before the kernel lets go, which
  // is the race; hence many rounds.
  for (int round = 0; round < 40; ++round) {
    const DeviceSnapshot snapshot = attach_described(64 * kib);
    UniqueFd holder = open_device(snapshot, O_RDWR);
    // Dirty pages make the close take its time.
    ASSERT_EQ(::pwrite(holder.get(), pattern(32 * kib).data(), 32 * kib, 0), static_cast<ssize_t>(32 * kib));
    std::jthread closer([&] {
      // When the removal has it armed, or has come at least to the wait.
      comes_true([&] { return sysfs(snapshot.number, "loop/autoclear") == "1"; }, 20ms);
      holder.reset();
    });
    const auto start = std::chrono::steady_clock::now();
    ASSERT_EQ(remove_error(snapshot, {}, 5s), std::nullopt) << message_ << " in round " << round;
    EXPECT_LT(std::chrono::steady_clock::now() - start, 2s) << "the close was missed in round " << round;
    expect_gone(snapshot);
    if (HasFailure()) return;
  }
}

TEST_F(ARealRemoval, SucceedsWhenTheMountGoesWithinTheCallersPatience) {
  const DeviceSnapshot snapshot = attach_described();
  make_ext4(snapshot.dev_path());
  if (HasFatalFailure() || IsSkipped()) return;
  const std::string mount_point = mount(snapshot.dev_path());
  // Something to be written back: the umount is seen before it has happened.
  UniqueFd file(::open((mount_point + "/file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  write_at(file.get(), 0, pattern(1 * mib));
  file.reset();
  std::jthread unmounter([&] {
    ::poll(nullptr, 0, 50);  // so that the removal is waiting
    unmount(mount_point);
  });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(remove_error(snapshot, {}, 10s), std::nullopt) << message_;
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s) << "the umount was missed";
  expect_gone(snapshot);
}

TEST_F(ARealRemoval, ThatIsLazyHappensWithTheLastClose) {
  const DeviceSnapshot snapshot = attach_described();
  UniqueFd holder = open_device(snapshot);
  EXPECT_EQ(remove_error(snapshot, {.lazy = true}), std::nullopt) << message_;
  EXPECT_TRUE(still_attached(snapshot));
  EXPECT_EQ(read_at(holder.get(), snapshot.size - 4096, 4096), pattern(4096, 3));
  holder.reset();
  EXPECT_TRUE(comes_true([&] { return !still_attached(snapshot); }));
}

TEST_F(ARealRemoval, ThatIsLazyOfAnUnusedDeviceHappensAtOnce) {
  const DeviceSnapshot snapshot = attach_described();
  // Unless udev is looking: then with its close.
  EXPECT_EQ(remove_error(snapshot, {.lazy = true}), std::nullopt) << message_;
  EXPECT_TRUE(comes_true([&] { return !still_attached(snapshot); }));
}

TEST_F(ARealRemoval, KeepsTheNodeWhereThatIsAsked) {
  const DeviceSnapshot snapshot = attach_described();
  EXPECT_EQ(remove_error(snapshot, {.keep_node = true}), std::nullopt) << message_;
  EXPECT_TRUE(node_exists("loop" + std::to_string(snapshot.number)));
  EXPECT_FALSE(kernel_->has_attribute(snapshot.number, "loop"));
}

TEST_F(ARealRemoval, IsStaleWhereTheNumberWasReused) {
  const DeviceSnapshot first = attach_described();
  ASSERT_EQ(remove_error(first), std::nullopt) << message_;
  AttachRequest again = request();
  again.number = first.number;
  const DeviceSnapshot second = attach(again);
  EXPECT_EQ(remove_error(first), Errc::stale);
  EXPECT_TRUE(still_attached(second));
}

TEST_F(ARealRemoval, OfANumberWithoutADeviceIsNotAttached) {
  EXPECT_EQ(error_of([&] { remove(manager_, private_number()); }), Errc::not_attached);
}

TEST_F(ARealRemoval, IsTakenBackWhenItIsDestroyedHalfway) {
  const DeviceSnapshot snapshot = attach_described();
  const UniqueFd holder = open_device(snapshot);
  const Status before = status_of(snapshot);
  {
    Removal removal(manager_, snapshot.number, snapshot.disk_sequence, {});
    EXPECT_EQ(removal.attempt(), Removal::State::busy);
    EXPECT_EQ(sysfs(snapshot.number, "loop/autoclear"), "1");
  }
  EXPECT_EQ(status_of(snapshot), before);
}

TEST_F(ARealRemoval, SucceedsHundredsOfTimesAgainstAProcessThatOpensAndClosesAllTheTime) {
  const unsigned number = private_number();
  ChildProcess prober([number](const auto& report_ready) {
    const std::string path = "/dev/loop" + std::to_string(number);
    report_ready();
    for (;;) {
      const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
      if (fd >= 0) {
        char byte = 0;
        if (::read(fd, &byte, 1) < 0) ::poll(nullptr, 0, 1);
        ::close(fd);
      } else {
        ::poll(nullptr, 0, 1);
      }
    }
  });
  AttachRequest chosen = request(64 * kib);
  chosen.number = number;
  int refused = 0;
  for (int cycle = 0; cycle < 200; ++cycle) {
    const DeviceSnapshot snapshot = attach(chosen);
    // Like udev's probing, a process may have it in each of some looks.
    const auto error = remove_error(snapshot, {}, 2s);
    if (error == Errc::device_busy && still_attached(snapshot)) {
      ++refused;
      EXPECT_EQ(sysfs(number, "loop/autoclear"), "0");
      ASSERT_EQ(remove_error(snapshot, {}, 10s), std::nullopt) << message_;
    } else {
      ASSERT_EQ(error, std::nullopt) << message_ << " in cycle " << cycle;
    }
    ASSERT_FALSE(still_attached(snapshot)) << "in cycle " << cycle;
  }
  EXPECT_LT(refused, 20);
}

}  // namespace
}  // namespace loop::testing
