// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Devices that others attach and detach: losetup, mount, a program of anybody's.
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class ForeignDevice : public Bus {
 protected:
  bool appears(unsigned number) {
    return root().wait_for(
        [&] { return root().find_signal("InterfacesAdded", object_of(number)) != nullptr; });
  }
  bool vanishes(unsigned number) {
    return root().wait_for(
        [&] { return root().find_signal("InterfacesRemoved", object_of(number)) != nullptr; });
  }
};

TEST_F(ForeignDevice, OfLosetupAppearsCompleteAndVanishes) {
  const ScratchFile file(MiB);
  const unsigned number = own_number();
  ASSERT_EQ(
      run({"losetup", "--read-only", "--offset=4096", "--sizelimit=65536", node_of(number), file.path()})
          .status,
      0);
  ASSERT_TRUE(appears(number));
  const Value* announced =
      root().find_signal("InterfacesAdded", object_of(number))->arguments.at(1).find(device_interface);
  ASSERT_NE(announced, nullptr);
  EXPECT_EQ(announced->at("BackingFile"), text(file.path()));
  EXPECT_EQ(announced->at("BackingInode"), u64(file.status().st_ino));
  EXPECT_EQ(announced->at("BackingDev"), u64(file.status().st_dev));
  EXPECT_EQ(announced->at("Size"), u64(65536));
  EXPECT_EQ(announced->at("Offset"), u64(4096));
  EXPECT_EQ(announced->at("SizeLimit"), u64(65536));
  EXPECT_EQ(announced->at("ReadOnly"), boolean(true));
  EXPECT_EQ(announced->at("OwnerUID"), u32(0));
  EXPECT_EQ(announced->at("Reference"), text("")) << "losetup writes the path there";

  ASSERT_EQ(run({"losetup", "--detach", node_of(number)}).status, 0);
  ASSERT_TRUE(vanishes(number));
  EXPECT_FALSE(root().has_object(object_of(number)));
  EXPECT_EQ(root().count_signals("InterfacesAdded", object_of(number)), 1U);
  EXPECT_EQ(root().count_signals("InterfacesRemoved", object_of(number)), 1U);
}

TEST_F(ForeignDevice, OfMountAppearsWithAutoclearAndVanishesWithTheMount) {
  const ScratchFile file(16 * MiB);
  ASSERT_EQ(run({"mkfs.ext4", "-q", file.path()}).status, 0);
  const MountPoint point("mounted");
  ASSERT_EQ(run({"mount", "-o", "loop", file.path(), point.path()}).status, 0);
  const CommandResult listed =
      run({"losetup", "--noheadings", "--output", "NAME", "--associated", file.path()});
  ASSERT_TRUE(listed.output.starts_with("/dev/loop")) << listed.output;
  const auto number = static_cast<unsigned>(std::stoul(listed.output.substr(9)));

  ASSERT_TRUE(root().wait_for([&] {
    const Reply shown = root().property(object_of(number), "BackingFile");
    return shown.ok() && shown.values.at(0) == text(file.path());
  }));
  const Value all = properties_of(object_of(number));
  EXPECT_EQ(all.at("Autoclear"), boolean(true));
  root().process();
  root().forget_signals();
  ASSERT_TRUE(point.unmount());
  EXPECT_TRUE(vanishes(number));
}

TEST_F(ForeignDevice, HasAnObjectWithItsPartitions) {
  const ScratchFile file(8 * MiB);
  const unsigned number = own_number();
  ASSERT_EQ(kernel_attach(number, file.fd()), 0);
  ASSERT_TRUE(appears(number));
  ASSERT_EQ(kernel_add_partition(number, 2, 2 * MiB, MiB), 0);
  const std::string object = object_of(number) + "/p2";
  ASSERT_TRUE(root().wait_for([&] { return root().find_signal("PartitionAdded", object) != nullptr; }));
  const Signal* added = root().find_signal("PartitionAdded", object);
  EXPECT_EQ(added->object, object_of(number));
  EXPECT_EQ(added->arguments.at(1), text(node_of(number) + "p2"));
  EXPECT_EQ(added->arguments.at(2), u32(2));
  const Value all = properties_of(object, partition_interface);
  EXPECT_EQ(all.at("Offset"), u64(2 * MiB));
  EXPECT_EQ(all.at("Size"), u64(MiB));
  EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove")));
  EXPECT_TRUE(root().wait_for([&] { return root().find_signal("PartitionRemoved", object) != nullptr; }));
}

// udev has read their entries, and the look that follows finds nothing else.
TEST_F(ForeignDevice, HasPartitionsWithNamesFromTheBeginning) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const unsigned number = own_number();
  ASSERT_EQ(kernel_attach(number, file.fd()), 0);
  ASSERT_TRUE(appears(number));
  const std::string object = object_of(number) + "/p2";
  ASSERT_EQ(kernel_add_partition(number, 2, 2 * MiB, 2 * MiB), 0);
  ASSERT_TRUE(root().wait_for([&] { return root().find_signal("PartitionAdded", object) != nullptr; }));
  const Value told = properties_of(object, partition_interface);
  EXPECT_EQ(told.at("Name"), text("second one"));
  EXPECT_EQ(told.at("UUID"), text("22222222-2222-4222-8222-222222222222"));
  EXPECT_EQ(told.at("Type"), text("0fc63daf-8483-4772-8e79-3d69d8477de4"));
  EXPECT_EQ(told.at("Size"), u64(2 * MiB));
  root().forget_signals();
  // An attach looks at all that was heard of before it decides.
  const ScratchFile other(MiB);
  attach(other);
  EXPECT_EQ(properties_of(object, partition_interface), told);
  for (const Signal& signal : root().signals()) EXPECT_NE(signal.object, object) << signal;
  EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove")));
}

TEST_F(ForeignDevice, MayBeRemovedByRoot) {
  const ScratchFile file(MiB);
  const unsigned number = own_number();
  ASSERT_EQ(kernel_attach(number, file.fd()), 0);
  ASSERT_TRUE(appears(number));
  EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove")));
  EXPECT_FALSE(node_exists(number));
  EXPECT_TRUE(vanishes(number));
}

TEST_F(ForeignDevice, ThatIsDetachedByAnotherVanishesWithItsPartitions) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const unsigned number = own_number();
  ASSERT_EQ(attach(file, {{"number", u32(number)}, {"partition-scan", boolean(true)}}), object_of(number));
  ASSERT_EQ(sysfs_partitions(number), (std::vector<unsigned>{1, 2, 3, 4, 5}));
  ASSERT_EQ(run({"losetup", "--detach", node_of(number)}).status, 0);
  ASSERT_TRUE(vanishes(number));
  for (unsigned p = 1; p <= 5; ++p) {
    const std::string object = object_of(number) + "/p" + std::to_string(p);
    EXPECT_TRUE(root().wait_for([&] { return root().count_signals("PartitionRemoved", object) == 1; }))
        << object;
  }
  // The kernel's partitions are deleted too, or the next file would get them.
  for (int i = 0; i < 20 && !sysfs_partitions(number).empty(); ++i) let_events_arrive();
  EXPECT_TRUE(sysfs_partitions(number).empty());
}

TEST_F(ForeignDevice, ReattachedAtOnceHasNoneOfTheFormerPartitions) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const ScratchFile plain(8 * MiB);
  const unsigned number = own_number();
  ASSERT_EQ(attach(file, {{"number", u32(number)}, {"partition-scan", boolean(true)}}), object_of(number));
  ASSERT_EQ(kernel_detach(number), 0);
  ASSERT_EQ(attach(plain, {{"number", u32(number)}}), object_of(number));
  EXPECT_TRUE(sysfs_partitions(number).empty());
  EXPECT_TRUE(properties_of(object_of(number)).at("Partitions").items.empty());
  EXPECT_EQ(properties_of(object_of(number)).at("BackingFile"), text(plain.path()));
}

TEST_F(ForeignDevice, MayHaveItsFileSwapped) {
  const ScratchFile first(MiB);
  const ScratchFile second(MiB);
  const unsigned number = own_number();
  ASSERT_EQ(run({"losetup", "--read-only", node_of(number), first.path()}).status, 0);
  ASSERT_TRUE(appears(number));
  const uint64_t before = properties_of(object_of(number)).at("DiskSequence").number;
  {
    const loop::UniqueFd node(::open(node_of(number).c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::ioctl(node.get(), LOOP_CHANGE_FD, second.fd()), 0);
  }
  let_events_arrive();
  const Value all = properties_of(object_of(number));
  EXPECT_EQ(all.at("BackingFile"), text(second.path()));
  EXPECT_EQ(all.at("BackingInode"), u64(second.status().st_ino));
  EXPECT_GT(all.at("DiskSequence").number, before);
  const Reply found = root().manager("FindByFile", {handle(second.fd())});
  ASSERT_TRUE(succeeds(found));
  EXPECT_EQ(found.values.at(0).texts(), std::vector<std::string>{object_of(number)});
  EXPECT_TRUE(root().manager("FindByFile", {handle(first.fd())}).values.at(0).items.empty());
  EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove")));
}

}  // namespace
}  // namespace bus_test
