// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Devices that are configured by a node of one's own.
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>

#include "core/device_name.hpp"
#include "core/inotify_events.hpp"
#include "core/node_directory.hpp"
#include "tests/kernel/real_loop_devices.hpp"

namespace loop::testing {
namespace {

class ANodeDirectory : public RealLoopDevices {
 protected:
  static std::string contents(const UniqueFd& directory) {
    std::string names;
    const std::string path = "/proc/self/fd/" + std::to_string(directory.get());
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      names += entry.path().filename().string() + " ";
    }
    return names;
  }

  UniqueFd directory_of_nodes_ = make_node_directory(Nodes::as_needed);
};

TEST_F(ANodeDirectory, OpensADeviceForReadingAndWritingAndKeepsNothing) {
  ASSERT_TRUE(directory_of_nodes_);
  const AttachRequest plain = request(64 * kib);
  const DeviceSnapshot snapshot = attach(plain);
  UniqueFd device;
  ASSERT_EQ(open_unwatched(directory_of_nodes_.get(), snapshot.dev, device), 0);
  EXPECT_EQ(contents(directory_of_nodes_), "");
  write_at(device.get(), 4096, pattern(4096, 7));
  ASSERT_EQ(::fsync(device.get()), 0);
  EXPECT_EQ(read_at(plain.file.get(), 4096, 4096), pattern(4096, 7));
}

TEST_F(ANodeDirectory, HasNodesOfTheFirstDevicesForThoseWhoMayMakeNone) {
  const UniqueFd prepared = make_node_directory(Nodes::prepared);
  ASSERT_TRUE(prepared) << std::strerror(errno);
  const std::string before = contents(prepared);
  struct stat first {};
  ASSERT_EQ(::fstatat(prepared.get(), "7:0", &first, 0), 0);
  EXPECT_TRUE(S_ISBLK(first.st_mode));
  EXPECT_EQ(first.st_rdev, makedev(7, 0));
  const DeviceSnapshot snapshot = attach_new();
  if (snapshot.number > 255) GTEST_SKIP() << "this machine has too many loop devices";
  UniqueFd device;
  EXPECT_EQ(open_unwatched(prepared.get(), snapshot.dev, device), 0);
  write_at(device.get(), 0, pattern(512, 7));
  EXPECT_EQ(contents(prepared), before) << "they stay";
  EXPECT_EQ(open_unwatched(prepared.get(), makedev(7, 300'000), device), -EROFS) << "and none is added";
}

TEST_F(ANodeDirectory, SaysWhatIsWrong) {
  UniqueFd device;
  EXPECT_EQ(open_unwatched(-1, makedev(7, 0), device), -EBADF);
  const UniqueFd file = memory_file(1);
  EXPECT_EQ(open_unwatched(file.get(), makedev(7, 0), device), -ENOTDIR);
  EXPECT_FALSE(device);
}

// Of a device that was there before.
class ConfiguringADevice : public RealLoopDevices {
 protected:
  // Closes of descriptors for writing that whoever watches the node, as udevd does, is told of.
  int closes_after_writing(LoopKernel& kernel) {
    const unsigned number = private_number();
    std::unique_ptr<LoopControl> control;
    if (kernel.open_control(control) < 0 || control->add(static_cast<int>(number)) < 0) return -1;
    const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    ::inotify_add_watch(watch.get(), ("/dev/" + kernel_name(number)).c_str(), IN_CLOSE_WRITE);
    LoopManager manager(kernel, &records_);
    AttachRequest wanted = request();
    wanted.number = number;
    Attachment attachment = manager.attach(wanted);
    remember(attachment.snapshot());
    attachment.commit();
    int closes = 0;
    each_inotify_event(watch.get(),
                       [&](const inotify_event& event) { closes += (event.mask & IN_CLOSE_WRITE) != 0; });
    return closes;
  }
};

TEST_F(ConfiguringADevice, IsNoWriteToThoseWhoWatchItsNode) {
  // An older kernel tells of it in no other way (LinuxLoopKernel::tells_of_configuring).
  const int wanted = kernel_->version() >= std::pair(6, 15) ? 0 : 1;
  EXPECT_EQ(closes_after_writing(*kernel_), wanted);
}

TEST_F(ConfiguringADevice, IsAWriteWhereThereIsNoNodeOfItsOwn) {
  EXPECT_EQ(closes_after_writing(*make_linux_loop_kernel()), 1);
  // A directory in which no node can be made.
  const UniqueFd nowhere(::open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_EQ(
      closes_after_writing(*make_linux_loop_kernel(UniqueFd(::fcntl(nowhere.get(), F_DUPFD_CLOEXEC, 3)))), 1);
}

}  // namespace
}  // namespace loop::testing
