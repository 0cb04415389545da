// SPDX-License-Identifier: LGPL-2.1-or-later
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class Partitions : public Bus {
 protected:
  std::string attach_with_partitions(const ScratchFile& file) {
    number_ = own_number();
    return attach(file, {{"number", u32(number_)}, {"partition-scan", boolean(true)}});
  }

  // What must be true at the moment of the reply.
  void expect_ready(const std::set<unsigned>& expected) {
    const std::string object = object_of(number_);
    std::vector<std::string> objects;
    for (const unsigned p : expected) {
      SCOPED_TRACE("partition " + std::to_string(p));
      objects.push_back(object + "/p" + std::to_string(p));
      EXPECT_TRUE(node_exists(number_, p));
      const CommandResult shown = run(
          {"udevadm", "info", "--query=property", "--name=" + node_of(number_) + "p" + std::to_string(p)});
      EXPECT_NE(shown.output.find("ID_PART_ENTRY_NUMBER=" + std::to_string(p) + "\n"), std::string::npos)
          << shown.output;
    }
    const std::vector<unsigned> in_sysfs = sysfs_partitions(number_);
    EXPECT_EQ(std::set<unsigned>(in_sysfs.begin(), in_sysfs.end()), expected);
    EXPECT_EQ(properties_of(object).at("Partitions").texts(), objects);
    EXPECT_EQ(properties_of(object).at("PartitionScan"), boolean(true));
    const Value managed = root().managed_objects().values.at(0);
    for (const std::string& p : objects) EXPECT_NE(managed.find(p), nullptr) << p;
  }

  unsigned number_ = 0;
};

TEST_F(Partitions, OfAGptAreReadyWhenAttachAnswers) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  ASSERT_FALSE(attach_with_partitions(file).empty());
  expect_ready({1, 2, 3, 4, 5});
}

TEST_F(Partitions, OfAnMbrAreReadyWhenAttachAnswersLogicalOnesToo) {
  const ScratchFile file(16 * MiB);
  partition(file, mbr_with_logicals);
  ASSERT_FALSE(attach_with_partitions(file).empty());
  expect_ready({1, 2, 4, 5, 6});
  EXPECT_EQ(sysfs(number_, "loop" + std::to_string(number_) + "p4/size"), "2")
      << "the extended partition is clipped";
}

TEST_F(Partitions, OfATableOf4096ByteSectorsAreReadyWithThatBlockSize) {
  const ScratchFile file(16 * MiB);
  {  // sfdisk knows only devices with such sectors
    const std::string whole = attach(file, {{"block-size", u32(4096)}});
    ASSERT_FALSE(whole.empty());
    ASSERT_EQ(run({"sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", node_of(number_of(whole))},
                  "label: gpt\nstart=1MiB, size=2MiB\nstart=4MiB, size=3MiB\n")
                  .status,
              0);
    ASSERT_TRUE(succeeds(root().device(whole, "Remove")));
  }
  number_ = own_number();
  const std::string object =
      attach(file, {{"number", u32(number_)}, {"partition-scan", boolean(true)}, {"block-size", u32(4096)}});
  ASSERT_FALSE(object.empty());
  expect_ready({1, 2});
  EXPECT_EQ(properties_of(object + "/p2", partition_interface).at("Offset"), u64(4 * MiB));
  EXPECT_EQ(properties_of(object + "/p2", partition_interface).at("Size"), u64(3 * MiB));
}

TEST_F(Partitions, ShowEveryPropertyOfAGpt) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach_with_partitions(file);
  ASSERT_FALSE(object.empty());
  const Value all = properties_of(object + "/p2", partition_interface);
  struct stat st {};
  ASSERT_EQ(::stat((node_of(number_) + "p2").c_str(), &st), 0);
  EXPECT_EQ(all.at("DevPath"), text(node_of(number_) + "p2"));
  EXPECT_EQ(all.at("Dev"), u64(st.st_rdev));
  EXPECT_EQ(all.at("Number"), u32(2));
  EXPECT_EQ(all.at("Offset"), u64(2 * MiB));
  EXPECT_EQ(all.at("Size"), u64(2 * MiB));
  EXPECT_EQ(all.at("Device"), path(object));
  EXPECT_EQ(all.at("Type"), text("0fc63daf-8483-4772-8e79-3d69d8477de4"));
  EXPECT_EQ(all.at("UUID"), text("22222222-2222-4222-8222-222222222222"));
  EXPECT_EQ(all.at("Name"), text("second one"));
  EXPECT_EQ(properties_of(object + "/p3", partition_interface).at("Type"),
            text("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"));
  EXPECT_EQ(properties_of(object + "/p3", partition_interface).at("Name"), text(""));
}

TEST_F(Partitions, ShowWhatAnMbrKnows) {
  const ScratchFile file(16 * MiB);
  partition(file, mbr_with_logicals);
  const std::string object = attach_with_partitions(file);
  ASSERT_FALSE(object.empty());
  const Value logical = properties_of(object + "/p6", partition_interface);
  EXPECT_EQ(logical.at("Type"), text("0x82"));
  EXPECT_EQ(logical.at("UUID"), text("cafe0001-06"));
  EXPECT_EQ(logical.at("Name"), text(""));
  EXPECT_EQ(logical.at("Offset"), u64(8 * MiB));
  EXPECT_EQ(logical.at("Size"), u64(MiB));
}

TEST_F(Partitions, AreAnnouncedComplete) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach_with_partitions(file);
  ASSERT_FALSE(object.empty());
  const std::string last = object + "/p5";
  ASSERT_TRUE(root().wait_for([&] { return root().find_signal("InterfacesAdded", last) != nullptr; }));
  const Value* announced =
      root().find_signal("InterfacesAdded", last)->arguments.at(1).find(partition_interface);
  ASSERT_NE(announced, nullptr);
  EXPECT_EQ(announced->items, properties_of(last, partition_interface).items);
}

TEST_F(Partitions, ComeAndGoExactlyOnceEachInEveryCycle) {
  constexpr size_t cycles = 20;
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const unsigned number = own_number();
  const std::string object = object_of(number);
  for (size_t cycle = 0; cycle < cycles; ++cycle) {
    ASSERT_EQ(attach(file, {{"number", u32(number)}, {"partition-scan", boolean(true)}}), object);
    ASSERT_EQ(sysfs_partitions(number), (std::vector<unsigned>{1, 2, 3, 4, 5})) << "cycle " << cycle;
    ASSERT_TRUE(succeeds(root().device(object, "Remove"))) << "cycle " << cycle;
    ASSERT_FALSE(node_exists(number)) << "cycle " << cycle;
  }
  let_events_arrive();
  EXPECT_EQ(root().count_signals("InterfacesAdded", object), cycles);
  EXPECT_EQ(root().count_signals("InterfacesRemoved", object), cycles);
  for (unsigned p = 1; p <= 5; ++p) {
    const std::string partition = object + "/p" + std::to_string(p);
    for (const char* signal :
         {"PartitionAdded", "PartitionRemoved", "InterfacesAdded", "InterfacesRemoved"}) {
      EXPECT_EQ(root().count_signals(signal, partition), cycles) << signal << " of " << partition;
    }
    // Each goes before it comes again.
    bool there = false;
    for (const Signal& signal : root().signals()) {
      if (signal.arguments.empty() || signal.arguments[0].text != partition) continue;
      if (signal.member == "PartitionAdded") {
        EXPECT_FALSE(there);
        EXPECT_EQ(signal.object, object);
        EXPECT_EQ(signal.arguments.at(1), text(node_of(number) + "p" + std::to_string(p)));
        EXPECT_EQ(signal.arguments.at(2), u32(p));
        there = true;
      } else if (signal.member == "PartitionRemoved") {
        EXPECT_TRUE(there);
        there = false;
      }
    }
    EXPECT_FALSE(there);
  }
}

TEST_F(Partitions, AreNotAddedWithoutPartitionScan) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  let_events_arrive();
  EXPECT_TRUE(sysfs_partitions(number_of(object)).empty());
  EXPECT_TRUE(properties_of(object).at("Partitions").items.empty());
}

TEST_F(Partitions, OfAFileWithoutATableAreNone) {
  const ScratchFile file(8 * MiB);
  ASSERT_FALSE(attach_with_partitions(file).empty());
  expect_ready({});
}

TEST_F(Partitions, ThatEndBeyondATruncatedFileAreSkipped) {
  const ScratchFile file(16 * MiB);
  partition(file, mbr_with_logicals);
  file.resize(7 * MiB);
  ASSERT_FALSE(attach_with_partitions(file).empty());
  expect_ready({1, 2, 4, 5});
}

TEST_F(Partitions, OfATruncatedGptDoNotKeepItFromBeingAttached) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  file.resize(5 * MiB);
  EXPECT_FALSE(attach_with_partitions(file).empty());
}

TEST_F(Partitions, AreFollowedWhenSomebodyAddsAndDeletesThem) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach_with_partitions(file);
  ASSERT_FALSE(object.empty());
  let_events_arrive();  // udev looks at a device that was just attached
  ASSERT_EQ(run({"delpart", node_of(number_), "3"}).status, 0);
  EXPECT_TRUE(root().wait_for([&] { return root().count_signals("PartitionRemoved", object + "/p3") == 1; }));
  EXPECT_EQ(properties_of(object).at("Partitions").items.size(), 4U);
  ASSERT_EQ(run({"addpart", node_of(number_), "3", "8192", "2048"}).status, 0);
  EXPECT_TRUE(root().wait_for([&] { return root().count_signals("PartitionAdded", object + "/p3") == 2; }));
  EXPECT_EQ(properties_of(object).at("Partitions").items.size(), 5U);
  EXPECT_TRUE(root().wait_for([&] {
    const auto changed = root().changed_property(object, "Partitions");
    return changed && changed->items.size() == 5;
  }));
}

TEST_F(Partitions, AreFollowedWhenTheTableIsWrittenAnew) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach_with_partitions(file);
  ASSERT_FALSE(object.empty());
  let_events_arrive();
  // Whether the kernel has a parser or not: where it has none, sfdisk's wish to
  // have the table read again is refused.
  const CommandResult written =
      run({"sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--delete", node_of(number_), "5"});
  ASSERT_EQ(written.status, 0) << written.output;
  EXPECT_TRUE(root().wait_for([&] { return root().count_signals("PartitionRemoved", object + "/p5") == 1; }));
  EXPECT_EQ(sysfs_partitions(number_).size(), 4U);
  EXPECT_EQ(properties_of(object).at("Partitions").items.size(), 4U);
  EXPECT_EQ(root().count_signals("PartitionRemoved", object + "/p1"), 0U);
}

// udev does not see a writer's close while it is at work on the device itself.
TEST_F(Partitions, AreFollowedWhenTheTableIsWrittenWhileUdevIsBusy) {
  const ScratchFile file(8 * MiB);
  for (int round = 0; round < 10; ++round) {
    partition(file, gpt_with_five_partitions);
    const std::string object = attach_with_partitions(file);
    ASSERT_FALSE(object.empty());
    const std::string node = node_of(number_);
    run({"udevadm", "trigger", "--action=change", "/sys/block/loop" + std::to_string(number_)});
    ASSERT_EQ(run({"sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--delete", node, "5"}).status, 0);
    EXPECT_TRUE(soon([&] { return sysfs_partitions(number_).size() == 4; })) << "round " << round;
    ASSERT_TRUE(succeeds(root().device(object, "Remove")));
  }
}

TEST_F(Partitions, AreNotAnnouncedAgainWhenUdevIsTriggered) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach_with_partitions(file);
  ASSERT_FALSE(object.empty());
  for (const char* action : {"add", "change"}) {
    ASSERT_EQ(run({"udevadm", "trigger", "--settle", std::string("--action=") + action,
                   "/sys/block/loop" + std::to_string(number_),
                   "/sys/block/loop" + std::to_string(number_) + "/loop" + std::to_string(number_) + "p2"})
                  .status,
              0);
  }
  let_events_arrive();
  EXPECT_EQ(root().count_signals("InterfacesAdded", object), 1U);
  EXPECT_EQ(root().count_signals("InterfacesAdded", object + "/p2"), 1U);
  EXPECT_EQ(root().count_signals("PartitionAdded", object + "/p2"), 1U);
  EXPECT_EQ(root().count_signals("PartitionRemoved", object + "/p2"), 0U);
  EXPECT_EQ(sysfs_partitions(number_).size(), 5U);
}

TEST_F(Partitions, CanBeMounted) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach_with_partitions(file);
  ASSERT_FALSE(object.empty());
  ASSERT_EQ(run({"mkfs.ext4", "-q", node_of(number_) + "p2"}).status, 0);
  const MountPoint point("partition");
  ASSERT_TRUE(point.mount(node_of(number_) + "p2"));
  EXPECT_TRUE(point.unmount());
  let_events_arrive();
  EXPECT_EQ(root().count_signals("PartitionAdded", object + "/p2"), 1U) << "mkfs must not make it flap";
  EXPECT_EQ(root().count_signals("PartitionRemoved", object + "/p2"), 0U);
}

TEST_F(Partitions, OfManyImagesAtOnceAreAllThere) {
  constexpr int images = 8;
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  std::vector<std::unique_ptr<BusClient>> clients;
  std::vector<std::shared_ptr<std::optional<Reply>>> replies;
  for (int i = 0; i < images; ++i) {
    clients.push_back(connect());
    replies.push_back(clients.back()->start(
        {.object = root_path,
         .interface = manager_interface,
         .member = "Attach",
         .arguments = {handle(file.fd()),
                       options({{"read-only", boolean(true)}, {"partition-scan", boolean(true)}})}}));
  }
  for (int i = 0; i < images; ++i) {
    const auto index = static_cast<size_t>(i);
    ASSERT_TRUE(clients[index]->wait_for([&] { return replies[index]->has_value(); }));
    ASSERT_TRUE(succeeds(**replies[index]));
    const std::string object = (*replies[index])->values.at(0).text;
    remove_at_end(object);
    EXPECT_EQ(sysfs_partitions(number_of(object)).size(), 5U);
    for (unsigned p = 1; p <= 5; ++p) EXPECT_TRUE(node_exists(number_of(object), p)) << object << " p" << p;
  }
}

}  // namespace
}  // namespace bus_test
