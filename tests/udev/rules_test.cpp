// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Which links a device gets, by whose it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <string>

#include "core/udev_monitor.hpp"
#include "core/unique_fd.hpp"
#include "tests/udev/private_udev.hpp"

namespace udev_test {
namespace {

using bus_test::MiB;
using bus_test::ScratchFile;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uid_t root = 0;
constexpr uid_t ordinary_user = 1000;
const std::string by_uuid = std::string("disk/by-uuid/") + file_system_uuid;

std::string name_of(const loop::DeviceSnapshot& device) { return "loop" + std::to_string(device.number); }

std::string by_sequence(const loop::DeviceSnapshot& device) {
  return "disk/by-diskseq/" + std::to_string(device.disk_sequence);
}

class TheRules : public UnderUdev {
 protected:
  // An image with a file system in its only partition.
  static void make_disk(const ScratchFile& image) {
    bus_test::partition(image, "label: gpt\nstart=1MiB, size=8MiB, name=stolen\n");
    make_file_system(image, "system", 1 * MiB, 8 * MiB);
  }
};

TEST_F(TheRules, GiveRootsDeviceItsLinks) {
  const ScratchFile image(16 * MiB);
  make_file_system(image, "system");
  const auto device = attach(image, root, "data");
  EXPECT_THAT(links_of(name_of(device)), Contains(by_uuid));
  EXPECT_THAT(links_of(name_of(device)), Contains("disk/by-label/system"));
  EXPECT_EQ(target_of("disk/by-loop-ref/data"), name_of(device));
  EXPECT_EQ(target_of(by_sequence(device)), name_of(device));
  detach(device);
  EXPECT_EQ(target_of("disk/by-loop-ref/data"), "");
}

TEST_F(TheRules, GiveRootsPartitionsTheirLinks) {
  const ScratchFile image(16 * MiB);
  make_disk(image);
  const auto device = attach(image, root, "data", true);
  EXPECT_EQ(target_of("disk/by-loop-ref/data"), name_of(device));
  EXPECT_EQ(target_of("disk/by-loop-ref/data-part1"), name_of(device) + "p1");
  EXPECT_EQ(target_of(by_uuid), name_of(device) + "p1");
  EXPECT_EQ(target_of("disk/by-partlabel/stolen"), name_of(device) + "p1");
}

TEST_F(TheRules, GiveNoLinkTwice) {
  const ScratchFile image(16 * MiB);
  const auto links = links_of(name_of(attach(image, root, "data")));
  EXPECT_EQ(std::count(links.begin(), links.end(), "disk/by-loop-ref/data"), 1);
}

TEST_F(TheRules, WriteAReferenceAsUdevWritesNames) {
  const ScratchFile image(1 * MiB);
  const auto device = attach(image, root, "my disk, \"größe\" 100%\\x");
  EXPECT_EQ(target_of("disk/by-loop-ref/my\\x20disk\\x2c\\x20\\x22größe\\x22\\x20100\\x25\\x5cx"),
            name_of(device));
}

// Each event is a look at the device for udev, and for whoever listens to it.
TEST_F(TheRules, AreAskedOnceForAnAttachment) {
  if (kernel_->version() < std::pair(6, 15)) GTEST_SKIP() << "this kernel does not tell of it itself";
  // The kernel's: one that udev makes of a write comes by it, too.
  loop::UdevMonitor monitor(loop::UdevMonitor::Source::kernel);
  const ScratchFile image(1 * MiB);
  const auto device = attach(image, root);
  int events = 0;
  while (const auto event = monitor.next()) {
    events += event->number == device.number && event->disk_sequence == device.disk_sequence;
  }
  EXPECT_EQ(events, 1);
}

TEST_F(TheRules, LeaveADeviceWithoutReferenceAlone) {
  const ScratchFile image(1 * MiB);
  const auto device = attach(image, root);
  EXPECT_THAT(links_of(name_of(device)), Not(Contains(testing::HasSubstr("by-loop-ref"))));
}

TEST_F(TheRules, GiveAUsersDeviceTheLinkByItsSequenceAlone) {
  const ScratchFile image(16 * MiB);
  make_file_system(image, "system");
  const auto device = attach(image, ordinary_user, "data");
  EXPECT_THAT(links_of(name_of(device)), ElementsAre(by_sequence(device)));
  for (const std::string& link :
       {by_uuid, std::string("disk/by-label/system"), std::string("disk/by-loop-ref/data")}) {
    EXPECT_EQ(target_of(link), "") << link;
  }
}

TEST_F(TheRules, GiveAUsersPartitionTheLinkByItsSequenceAlone) {
  const ScratchFile image(16 * MiB);
  make_disk(image);
  const auto device = attach(image, ordinary_user, "data", true);
  EXPECT_THAT(links_of(name_of(device) + "p1"), ElementsAre(by_sequence(device) + "-part1"));
  EXPECT_EQ(target_of(by_uuid), "");
}

TEST_F(TheRules, TellDesktopsWhatAUsersDeviceHolds) {
  const ScratchFile image(16 * MiB);
  make_file_system(image, "holiday");
  const auto device = attach(image, ordinary_user);
  const std::string properties =
      bus_test::run({"udevadm", "info", "--query=property", "--name=/dev/" + name_of(device)}).output;
  EXPECT_THAT(properties, testing::HasSubstr("ID_FS_LABEL=holiday\n"));
  EXPECT_THAT(properties, testing::HasSubstr("UDISKS_SYSTEM=0\n"));
  EXPECT_THAT(properties, testing::HasSubstr("LOOPD_OWNER_UID=1000\n"));
}

// Sees whatever happens to the links in a directory, however shortly.
class LinkWatch {
 public:
  explicit LinkWatch(const std::string& directory) : inotify_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
    const uint32_t changes = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;
    EXPECT_GE(::inotify_add_watch(inotify_.get(), directory.c_str(), changes), 0) << directory;
  }
  bool saw_nothing() {
    std::array<char, 4096> events{};
    return ::read(inotify_.get(), events.data(), events.size()) < 0;
  }

 private:
  loop::UniqueFd inotify_;
};

TEST_F(TheRules, NeverLetAUsersImageTakeTheSystemsLinks) {
  const ScratchFile system_image(16 * MiB);
  make_disk(system_image);
  const auto system = attach(system_image, root, "data", true);
  const ScratchFile same_image(16 * MiB);
  make_disk(same_image);
  const ScratchFile bare_image(16 * MiB);
  make_file_system(bare_image, "system");

  LinkWatch uuids("/dev/disk/by-uuid");
  LinkWatch labels("/dev/disk/by-label");
  LinkWatch references("/dev/disk/by-loop-ref");
  LinkWatch partition_labels("/dev/disk/by-partlabel");
  for (int round = 0; round < 5; ++round) {
    // The same numbers again and again, for different files.
    const auto partitioned = attach(same_image, ordinary_user, "data", true);
    const auto bare = attach(bare_image, ordinary_user, "data");
    // Whoever makes udev look again gets no other answer.
    bus_test::run({"udevadm", "trigger", "--action=add", "--settle", "/sys/block/" + name_of(partitioned),
                   "/sys/block/" + name_of(partitioned) + "/" + name_of(partitioned) + "p1",
                   "/sys/block/" + name_of(bare)});
    detach(partitioned);
    detach(bare);
  }
  EXPECT_TRUE(uuids.saw_nothing());
  EXPECT_TRUE(labels.saw_nothing());
  EXPECT_TRUE(references.saw_nothing());
  EXPECT_TRUE(partition_labels.saw_nothing());
  EXPECT_EQ(target_of(by_uuid), name_of(system) + "p1");
  EXPECT_EQ(target_of("disk/by-loop-ref/data-part1"), name_of(system) + "p1");
}

TEST_F(TheRules, GiveTheSystemItsLinksBesideAUsersOlderDevice) {
  const ScratchFile same_image(16 * MiB);
  make_file_system(same_image, "system");
  attach(same_image, ordinary_user, "data");
  const ScratchFile system_image(16 * MiB);
  make_file_system(system_image, "system");
  const auto system = attach(system_image, root, "data");
  EXPECT_EQ(target_of(by_uuid), name_of(system));
  EXPECT_EQ(target_of("disk/by-loop-ref/data"), name_of(system));
  detach(system);
  EXPECT_EQ(target_of(by_uuid), "");
  EXPECT_EQ(target_of("disk/by-loop-ref/data"), "");
}

TEST_F(TheRules, LeaveDevicesOfOthersAsTheyAre) {
  const ScratchFile image(16 * MiB);
  make_file_system(image, "system");
  const std::string node = bus_test::run({"losetup", "--find", "--show", image.path()}).output;
  ASSERT_TRUE(node.starts_with("/dev/loop"));
  settle();
  EXPECT_EQ("/dev/" + target_of(by_uuid) + "\n", node);
  EXPECT_EQ(bus_test::run({"losetup", "--detach", node.substr(0, node.size() - 1)}).status, 0);
  settle();
}

}  // namespace
}  // namespace udev_test
