// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A device with autoclear goes with its last use, and not before its first.
#include <fcntl.h>
#include <signal.h>
#include <sys/swap.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

const Options with_autoclear{{"autoclear", boolean(true)}};

class Autoclear : public Bus {
 protected:
  bool armed(const std::string& object) { return sysfs(number_of(object), "loop/autoclear") == "1"; }

  bool becomes_armed(const std::string& object) {
    return soon(
        [&] { return armed(object) && root().changed_property(object, "Autoclear") == boolean(true); });
  }

  bool ends(const std::string& object) {
    return goes(object) &&
           root().wait_for([&] { return root().count_signals("InterfacesRemoved", object) == 1; });
  }

  // Whatever looks at the device has done so, and still it is there and not armed.
  void expect_pending(const std::string& object) {
    let_events_arrive();
    EXPECT_TRUE(is_attached(number_of(object)));
    EXPECT_FALSE(armed(object));
    EXPECT_EQ(properties_of(object).at("Autoclear"), boolean(false)) << "the effective value";
  }

  std::string attach_ext4(const ScratchFile& file, const Options& wishes) {
    EXPECT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
    return attach(file, wishes);
  }
};

TEST_F(Autoclear, IsNotArmedBeforeTheFirstUse) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, with_autoclear);
  ASSERT_FALSE(object.empty());
  expect_pending(object);
  // Who just looks does not use it: blkid, udev.
  run({"blkid", "--probe", node_of(number_of(object))});
  expect_pending(object);
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
}

TEST_F(Autoclear, IsArmedByAMountAndEndsWithIt) {
  const ScratchFile file(16 * MiB);
  const std::string object = attach_ext4(file, with_autoclear);
  ASSERT_FALSE(object.empty());
  const MountPoint point("autoclear");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  EXPECT_TRUE(becomes_armed(object));
  EXPECT_TRUE(is_attached(number_of(object)));
  ASSERT_TRUE(point.unmount());
  EXPECT_TRUE(ends(object));
}

TEST_F(Autoclear, EndsWithTheLastOfTwoMounts) {
  const ScratchFile file(16 * MiB);
  const std::string object = attach_ext4(file, with_autoclear);
  ASSERT_FALSE(object.empty());
  const MountPoint first("first use");
  const MountPoint second("second use");
  ASSERT_TRUE(first.mount(node_of(number_of(object))));
  ASSERT_TRUE(second.mount(node_of(number_of(object))));
  EXPECT_TRUE(becomes_armed(object));
  ASSERT_TRUE(first.unmount());
  let_events_arrive();
  EXPECT_TRUE(is_attached(number_of(object)));
  ASSERT_TRUE(second.unmount());
  EXPECT_TRUE(ends(object));
}

TEST_F(Autoclear, IsArmedByTheMountOfAPartition) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"autoclear", boolean(true)}, {"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const std::string node = node_of(number_of(object)) + "p2";
  ASSERT_EQ(run({"mkfs.ext4", "-q", node}).status, 0);
  expect_pending(object);
  const MountPoint point("autoclear partition");
  ASSERT_TRUE(point.mount(node));
  EXPECT_TRUE(becomes_armed(object));
  ASSERT_TRUE(point.unmount());
  EXPECT_TRUE(ends(object));
  for (unsigned p = 1; p <= 5; ++p) {
    EXPECT_FALSE(node_exists(number_of(object), p));
    EXPECT_TRUE(root().wait_for(
        [&] { return root().count_signals("PartitionRemoved", object + "/p" + std::to_string(p)) == 1; }));
  }
}

TEST_F(Autoclear, IsArmedBySwap) {
  const ScratchFile file(4 * MiB);
  const std::string object = attach(file, with_autoclear);
  ASSERT_FALSE(object.empty());
  const std::string node = node_of(number_of(object));
  ASSERT_EQ(run({"mkswap", "-q", node}).status, 0);
  expect_pending(object);
  if (::swapon(node.c_str(), 0) < 0) GTEST_SKIP() << "no swap here, errno " << errno;
  const bool in_time = becomes_armed(object);
  ASSERT_EQ(::swapoff(node.c_str()), 0);
  EXPECT_TRUE(in_time);
  EXPECT_TRUE(ends(object));
}

TEST_F(Autoclear, IsArmedByALoopDeviceOnTop) {
  const ScratchFile file(MiB);
  const std::string lower = attach(file, with_autoclear);
  ASSERT_FALSE(lower.empty());
  expect_pending(lower);
  std::string upper;
  {
    const loop::UniqueFd disk(::open(node_of(number_of(lower)).c_str(), O_RDWR | O_CLOEXEC));
    upper = attach(disk.get());
    ASSERT_FALSE(upper.empty());
    EXPECT_TRUE(becomes_armed(lower));
  }
  let_events_arrive();
  EXPECT_TRUE(is_attached(number_of(lower)));
  ASSERT_TRUE(succeeds(root().device(upper, "Remove")));
  EXPECT_TRUE(ends(lower));
}

TEST_F(Autoclear, IsArmedByALoopDeviceOfLosetupOnAPartition) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string lower = attach(file, {{"autoclear", boolean(true)}, {"partition-scan", boolean(true)}});
  ASSERT_FALSE(lower.empty());
  expect_pending(lower);
  const unsigned upper = own_number();
  ASSERT_EQ(run({"losetup", node_of(upper), node_of(number_of(lower)) + "p2"}).status, 0);
  EXPECT_TRUE(becomes_armed(lower));
  ASSERT_EQ(run({"losetup", "--detach", node_of(upper)}).status, 0);
  EXPECT_TRUE(ends(lower));
}

// As mkfs has it: whoever mounts it afterwards must find it.
TEST_F(Autoclear, IsNotArmedByAnExclusiveOpenWhileOthersMount) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, with_autoclear);
  ASSERT_FALSE(object.empty());
  {
    const loop::UniqueFd mkfs(::open(node_of(number_of(object)).c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
    ASSERT_TRUE(mkfs);
    const MountPoint others("of others");
    ASSERT_TRUE(others.mount("none", "tmpfs"));
    expect_pending(object);
  }
  expect_pending(object);
}

// An open of the service's own that keeps others out would make one fail now and then.
TEST_F(Autoclear, NeverKeepsAMountOut) {
  const ScratchFile file(MiB);
  const std::string waiting = attach(file, with_autoclear);
  ASSERT_FALSE(waiting.empty());
  const MountPoint others("of others");
  for (int round = 0; round < 200; ++round) {
    ASSERT_TRUE(others.mount("none", "tmpfs"));
    const loop::UniqueFd exclusive(
        ::open(node_of(number_of(waiting)).c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    ASSERT_TRUE(exclusive) << "round " << round << ", errno " << errno;
    ASSERT_TRUE(others.unmount());
  }
  expect_pending(waiting);
}

TEST_F(Autoclear, MakesNobodyElsesMountsWakeAnIdleService) {
  const auto wake_ups = [this] {
    std::ifstream status("/proc/" + std::to_string(stack().loopd().pid()) + "/status");
    std::string line;
    while (std::getline(status, line)) {
      if (line.starts_with("voluntary_ctxt_switches:")) return std::stol(line.substr(line.find(':') + 1));
    }
    return -1L;
  };
  const auto mount_often = [&] {
    const MountPoint others("of others");
    const long before = wake_ups();
    for (int round = 0; round < 100; ++round) {
      EXPECT_TRUE(others.mount("none", "tmpfs"));
      EXPECT_TRUE(others.unmount());
    }
    return wake_ups() - before;
  };
  let_events_arrive();
  EXPECT_LT(mount_often(), 10) << "nothing is pending";
  const ScratchFile file(MiB);
  const std::string object = attach(file, with_autoclear);
  ASSERT_FALSE(object.empty());
  let_events_arrive();
  EXPECT_GT(mount_often(), 10) << "the test does not see wake-ups";
  ASSERT_TRUE(succeeds(root().device(object, "Remove")));
  let_events_arrive();
  EXPECT_LT(mount_often(), 10) << "nothing is pending any more";
}

TEST_F(Autoclear, IsArmedByADescriptorFromOpen) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, with_autoclear);
  ASSERT_FALSE(object.empty());
  {
    const Reply opened = root().device(object, "Open", {text("rw")});
    ASSERT_TRUE(succeeds(opened));
    EXPECT_TRUE(armed(object)) << "armed when the reply comes, or it would not go with the close";
    EXPECT_EQ(properties_of(object).at("Autoclear"), boolean(true));
    let_events_arrive();
    EXPECT_TRUE(is_attached(number_of(object)));
  }
  EXPECT_TRUE(ends(object));
}

TEST_F(Autoclear, MayBeTakenBackBeforeTheFirstUse) {
  const ScratchFile file(16 * MiB);
  const std::string object = attach_ext4(file, with_autoclear);
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(succeeds(root().device(object, "SetAutoclear", {boolean(false)})));
  const MountPoint point("taken back");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  expect_pending(object);
  ASSERT_TRUE(point.unmount());
  expect_pending(object);
}

TEST_F(Autoclear, MayBeTakenBackDuringTheUse) {
  const ScratchFile file(16 * MiB);
  const std::string object = attach_ext4(file, with_autoclear);
  ASSERT_FALSE(object.empty());
  const MountPoint point("taken back late");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  ASSERT_TRUE(becomes_armed(object));
  ASSERT_TRUE(succeeds(root().device(object, "SetAutoclear", {boolean(false)})));
  EXPECT_FALSE(armed(object));
  EXPECT_TRUE(
      root().wait_for([&] { return root().changed_property(object, "Autoclear") == boolean(false); }));
  ASSERT_TRUE(point.unmount());
  expect_pending(object);
}

TEST_F(Autoclear, SetOnAnUnusedDeviceWaitsForItsFirstUse) {
  const ScratchFile file(16 * MiB);
  const std::string object = attach_ext4(file, {});
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(succeeds(root().device(object, "SetAutoclear", {boolean(true)})));
  expect_pending(object);
  const MountPoint point("set before");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  EXPECT_TRUE(becomes_armed(object));
  ASSERT_TRUE(point.unmount());
  EXPECT_TRUE(ends(object));
}

TEST_F(Autoclear, SetOnAUsedDeviceIsArmedAtOnce) {
  const ScratchFile file(16 * MiB);
  const std::string object = attach_ext4(file, {});
  ASSERT_FALSE(object.empty());
  const MountPoint point("set during");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  ASSERT_TRUE(succeeds(root().device(object, "SetAutoclear", {boolean(true)})));
  EXPECT_TRUE(armed(object));
  EXPECT_TRUE(root().wait_for([&] { return root().changed_property(object, "Autoclear") == boolean(true); }));
  ASSERT_TRUE(point.unmount());
  EXPECT_TRUE(ends(object));
}

TEST_F(Autoclear, SetOnADeviceThatAProcessHasOpenDoesNotLoseIt) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const loop::UniqueFd holder(::open(node_of(number_of(object)).c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(succeeds(root().device(object, "SetAutoclear", {boolean(true)})));
  let_events_arrive();
  EXPECT_TRUE(is_attached(number_of(object)));
  EXPECT_TRUE(succeeds(root().device(object, "SetAutoclear", {boolean(false)})));
}

TEST_F(Autoclear, SurvivesARestartAsPending) {
  for (const int signal : {SIGTERM, SIGKILL}) {
    const ScratchFile file(16 * MiB);
    const std::string object = attach_ext4(file, with_autoclear);
    ASSERT_FALSE(object.empty());
    stack().stop_loopd(signal);
    stack().start_loopd();
    expect_pending(object);
    const MountPoint point("after the restart");
    ASSERT_TRUE(point.mount(node_of(number_of(object))));
    EXPECT_TRUE(becomes_armed(object));
    ASSERT_TRUE(point.unmount());
    EXPECT_TRUE(ends(object));
    root().forget_signals();
  }
}

TEST_F(Autoclear, IsArmedByAMountOfTheTimeWithoutTheService) {
  const ScratchFile file(16 * MiB);
  const std::string object = attach_ext4(file, with_autoclear);
  ASSERT_FALSE(object.empty());
  const MountPoint point("meanwhile");
  stack().stop_loopd();
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  stack().start_loopd();
  EXPECT_TRUE(soon([&] { return armed(object); }));
  ASSERT_TRUE(point.unmount());
  EXPECT_TRUE(ends(object));
}

TEST_F(Autoclear, OfAnArmedDeviceSurvivesARestart) {
  const ScratchFile file(16 * MiB);
  const std::string object = attach_ext4(file, with_autoclear);
  ASSERT_FALSE(object.empty());
  const MountPoint point("armed before");
  ASSERT_TRUE(point.mount(node_of(number_of(object))));
  ASSERT_TRUE(becomes_armed(object));
  stack().stop_loopd(SIGKILL);
  stack().start_loopd();
  EXPECT_TRUE(armed(object));
  EXPECT_EQ(properties_of(object).at("Autoclear"), boolean(true));
  ASSERT_TRUE(point.unmount());
  EXPECT_TRUE(ends(object));
}

TEST_F(Autoclear, OfManyDevicesIsArmedForThoseThatAreUsed) {
  std::vector<std::unique_ptr<ScratchFile>> files;
  std::vector<std::string> objects;
  std::vector<std::unique_ptr<MountPoint>> points;
  for (int i = 0; i < 6; ++i) {
    files.push_back(std::make_unique<ScratchFile>(16 * MiB));
    objects.push_back(attach_ext4(*files.back(), with_autoclear));
    ASSERT_FALSE(objects.back().empty());
  }
  for (size_t i = 0; i < objects.size(); i += 2) {
    points.push_back(std::make_unique<MountPoint>("many " + std::to_string(i)));
    ASSERT_TRUE(points.back()->mount(node_of(number_of(objects[i]))));
  }
  for (size_t i = 0; i < objects.size(); i += 2) EXPECT_TRUE(becomes_armed(objects[i]));
  for (size_t i = 1; i < objects.size(); i += 2) expect_pending(objects[i]);
  points.clear();
  for (size_t i = 0; i < objects.size(); i += 2) EXPECT_TRUE(ends(objects[i]));
  for (size_t i = 1; i < objects.size(); i += 2) EXPECT_TRUE(is_attached(number_of(objects[i])));
}

}  // namespace
}  // namespace bus_test
