// SPDX-License-Identifier: LGPL-2.1-or-later
//
// loopd-attach, as units run it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "tests/udev/private_udev.hpp"

namespace udev_test {
namespace {

using bus_test::CommandResult;
using bus_test::MiB;
using bus_test::MountPoint;
using bus_test::ScratchFile;
using ::testing::HasSubstr;

class LoopdAttach : public UnderUdev {
 protected:
  static CommandResult run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), LOOPD_ATTACH_BINARY);
    return bus_test::run(arguments);
  }

  CommandResult attach_line(const std::string& name, const ScratchFile& image,
                            const std::string& options = "-") {
    return run({"attach", name, image.path(), options});
  }

  // Devices of the records that are attached.
  std::vector<loop::AttachmentRecord> attached() const {
    std::vector<loop::AttachmentRecord> found;
    for (const auto& record : records_->all()) {
      if (loop::is_attached(*kernel_, record.number, record.disk_sequence)) found.push_back(record);
    }
    return found;
  }

  static std::string link(const std::string& name) { return "disk/by-loop-ref/" + name; }
};

TEST_F(LoopdAttach, ReturnsWhenTheLinksAreThere) {
  const ScratchFile image(8 * MiB);
  bus_test::partition(image, bus_test::gpt_with_five_partitions);
  const auto result = attach_line("data", image, "partition-scan,nofail");
  ASSERT_EQ(result.status, 0) << result.output;
  const std::string node = target_of(link("data"));
  ASSERT_NE(node, "") << result.output;
  for (const char* number : {"1", "2", "3", "4", "5"}) {
    EXPECT_EQ(target_of(link("data-part") + number), node + "p" + number);
  }
}

TEST_F(LoopdAttach, AttachesWithTheOptionsOfTheLine) {
  const ScratchFile image(4 * MiB);
  const auto result =
      attach_line("data", image, "read-only,offset=1M,size-limit=2M,block-size=4096,reference=other");
  ASSERT_EQ(result.status, 0) << result.output;
  ASSERT_EQ(attached().size(), 1U);
  const unsigned number = attached()[0].number;
  EXPECT_EQ(bus_test::sysfs(number, "loop/offset"), std::to_string(1 * MiB));
  EXPECT_EQ(bus_test::sysfs(number, "loop/sizelimit"), std::to_string(2 * MiB));
  EXPECT_EQ(bus_test::sysfs(number, "queue/logical_block_size"), "4096");
  EXPECT_EQ(bus_test::sysfs(number, "ro"), "1");
  EXPECT_EQ(target_of(link("other")), "loop" + std::to_string(number));
  EXPECT_EQ(attached()[0].declaration, "data");
  EXPECT_EQ(attached()[0].reference, "other");
}

TEST_F(LoopdAttach, AttachesOnceHoweverOftenItIsStarted) {
  const ScratchFile image(16 * MiB);
  make_file_system(image, "system");
  ASSERT_EQ(attach_line("data", image).status, 0);
  const auto first = attached();
  const MountPoint mount_point("mnt");
  ASSERT_TRUE(mount_point.mount("/dev/" + link("data")));
  const auto result = attach_line("data", image);
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("is attached already"));
  EXPECT_EQ(attached(), first);
}

TEST_F(LoopdAttach, RefusesToTakeAnotherDeviceForTheLines) {
  const ScratchFile image(4 * MiB, "one.img");
  const ScratchFile other(4 * MiB, "other.img");
  ASSERT_EQ(attach_line("data", image).status, 0);
  const auto first = attached();
  const std::vector<std::pair<CommandResult, std::string>> refusals{
      {attach_line("data", other), "with another file, " + image.path()},
      {attach_line("data", image, "read-only"), "with writable"},
      {attach_line("data", image, "offset=1M"), "with another offset, 0"},
      {attach_line("data", image, "size-limit=1M"), "with another size-limit, 0"},
      {attach_line("data", image, "block-size=4096"), "with another block-size, 512"},
      {attach_line("data", image, "partition-scan"), "with no partition-scan"},
      {attach_line("data", image, "reference=new"), "with another reference, 'data'"},
  };
  for (const auto& [result, why] : refusals) {
    EXPECT_EQ(result.status, 1) << why;
    EXPECT_THAT(result.output, HasSubstr("data: is attached already, as /dev/loop"));
    EXPECT_THAT(result.output, HasSubstr(why));
  }
  EXPECT_EQ(attached(), first);
}

TEST_F(LoopdAttach, FailsAtOnceWithoutTheImage) {
  const auto start = bus_test::Clock::now();
  const auto result = run({"attach", "data", "/var/tmp/there/is/none.img"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("data: /var/tmp/there/is/none.img: No such file or directory"));
  EXPECT_LT(bus_test::Clock::now() - start, std::chrono::seconds(5));
}

TEST_F(LoopdAttach, RefusesAReferenceOfAnotherDeviceOfRoot) {
  const ScratchFile image(1 * MiB);
  const ScratchFile other(1 * MiB);
  attach(other, 0, "data");
  const auto result = attach_line("data", image);
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("reference: 'data' is that of /dev/loop"));
}

TEST_F(LoopdAttach, IsNotKeptOutByAUsersReference) {
  const ScratchFile image(1 * MiB);
  const ScratchFile other(1 * MiB);
  attach(other, 1000, "data");
  const auto result = attach_line("data", image);
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_EQ(run({"detach", "data"}).status, 0);
  EXPECT_EQ(attached().size(), 1U);  // the user's
}

TEST_F(LoopdAttach, RefusesToMapTheSameBytesTwice) {
  const ScratchFile image(4 * MiB);
  ASSERT_EQ(attach_line("one", image, "size-limit=2M").status, 0);
  const auto result = attach_line("two", image);
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("maps bytes 0 to 2097152 of the file already"));
  EXPECT_EQ(attach_line("three", image, "offset=2M").status, 0);
}

TEST_F(LoopdAttach, DetachesAndLeavesNothing) {
  const ScratchFile image(8 * MiB);
  bus_test::partition(image, bus_test::gpt_with_five_partitions);
  ASSERT_EQ(attach_line("data", image, "partition-scan").status, 0);
  const auto device = attached().at(0);
  const auto result = run({"detach", "data"});
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_FALSE(bus_test::is_attached(device.number));
  EXPECT_FALSE(records_->find(device.disk_sequence));
  EXPECT_EQ(run({"detach", "data"}).status, 0);
  EXPECT_THAT(run({"detach", "data"}).output, HasSubstr("data: is not attached"));
}

TEST_F(LoopdAttach, RefusesToDetachUnderAMountAndNamesIt) {
  const ScratchFile image(16 * MiB);
  make_file_system(image, "system");
  ASSERT_EQ(attach_line("data", image).status, 0);
  const MountPoint mount_point("mnt");
  ASSERT_TRUE(mount_point.mount("/dev/" + link("data")));
  const auto result = run({"detach", "data"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("is in use: mounted at " + mount_point.path()));
  EXPECT_EQ(attached().size(), 1U);
  ASSERT_TRUE(mount_point.unmount());
  EXPECT_EQ(run({"detach", "data"}).status, 0);
}

TEST_F(LoopdAttach, RefusesToDetachUnderSwapAndNamesIt) {
  const ScratchFile image(4 * MiB);
  ASSERT_EQ(bus_test::run({"mkswap", "--quiet", image.path()}).status, 0);
  ASSERT_EQ(attach_line("swap", image).status, 0);
  const std::string node = "/dev/" + link("swap");
  const auto swapped = bus_test::run({"swapon", "--priority=0", node});
  ASSERT_EQ(swapped.status, 0) << swapped.output;
  const auto result = run({"detach", "swap"});
  EXPECT_EQ(bus_test::run({"swapoff", node}).status, 0);
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("is in use: swap"));
  EXPECT_EQ(run({"detach", "swap"}).status, 0);
  EXPECT_TRUE(attached().empty());
}

TEST_F(LoopdAttach, NamesAnImageByItsPath) {
  const ScratchFile image(1 * MiB, "my disk.img");
  ASSERT_EQ(run({"attach", image.path(), image.path(), "-"}).status, 0);
  ASSERT_EQ(attached().size(), 1U);
  EXPECT_EQ(attached()[0].declaration, image.path());
  EXPECT_EQ(attached()[0].reference, "");
  EXPECT_THAT(run({"attach", image.path(), image.path()}).output, HasSubstr("is attached already"));
  EXPECT_EQ(run({"detach", image.path()}).status, 0);
  EXPECT_TRUE(attached().empty());
}

TEST_F(LoopdAttach, SaysWhatIsWrongWithItsArguments) {
  const ScratchFile image(1 * MiB);
  EXPECT_EQ(run({}).status, 2);
  EXPECT_EQ(run({"attach", "data"}).status, 2);
  EXPECT_EQ(run({"detach", "data", "more"}).status, 2);
  EXPECT_EQ(run({"--help"}).status, 0);
  const auto result = attach_line("data", image, "read-olny");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("'read-olny': is no option"));
}

}  // namespace
}  // namespace udev_test
