// SPDX-License-Identifier: LGPL-2.1-or-later
//
// reuse, allow-overlap, block-size-auto, and Probe, which tells what Attach would do.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "tests/bus/bus_fixture.hpp"
#include "tests/support/image.hpp"

namespace bus_test {
namespace {

using loop::testing::write_at;
using loop::testing::write_gpt;
using Replies = std::vector<std::shared_ptr<std::optional<Reply>>>;

constexpr const char* overlap_error = "org.example.Loop1.Error.Overlap";

Call attach_call(int file, const Options& wishes) {
  return {.object = root_path,
          .interface = manager_interface,
          .member = "Attach",
          .arguments = {handle(file), options(wishes)}};
}

class OptionsFixture : public Bus {
 protected:
  std::vector<std::string> devices_of(int file) {
    const Reply reply = root().manager("FindByFile", {handle(file)});
    EXPECT_TRUE(succeeds(reply));
    return reply.ok() ? reply.values.at(0).texts() : std::vector<std::string>();
  }

  std::string attach_as(BusClient& user, int file, const Options& wishes = {}) {
    const Reply reply = user.attach(file, wishes);
    EXPECT_TRUE(succeeds(reply));
    if (!reply.ok()) return {};
    remove_at_end(reply.values.at(0).text);
    return reply.values.at(0).text;
  }
};

class Reuse : public OptionsFixture {};

TEST_F(Reuse, GivesTheSameDeviceAndAttachesNothing) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const uint64_t sequence = properties_of(object).at("DiskSequence").number;
  for (int i = 0; i < 3; ++i) {
    const Reply again = connect()->attach(file.fd(), {{"reuse", boolean(true)}});
    ASSERT_TRUE(succeeds(again));
    EXPECT_EQ(again.values.at(0), path(object));
  }
  EXPECT_EQ(devices_of(file.fd()), std::vector<std::string>{object});
  EXPECT_EQ(properties_of(object).at("DiskSequence").number, sequence);
  let_events_arrive();
  EXPECT_EQ(root().count_signals("InterfacesAdded", object), 1U);
}

TEST_F(Reuse, AttachesWhereThereIsNothingToReuse) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"reuse", boolean(true)}});
  ASSERT_FALSE(object.empty());
  ASSERT_TRUE(succeeds(root().device(object, "Remove")));
  EXPECT_FALSE(attach(file, {{"reuse", boolean(true)}}).empty());
}

TEST_F(Reuse, ComparesTheInodeAndNotTheName) {
  const ScratchFile file(MiB);
  const std::string link = file.path() + ".link";
  ASSERT_EQ(::link(file.path().c_str(), link.c_str()), 0);
  const loop::UniqueFd same(::open(link.c_str(), O_RDWR | O_CLOEXEC));
  const std::string object = attach(file);
  EXPECT_EQ(attach(same.get(), {{"reuse", boolean(true)}}), object);
  ::unlink(link.c_str());
}

TEST_F(Reuse, NeedsTheSameRangeBlockSizeAndMode) {
  const ScratchFile file(4 * MiB);
  const Options plain{{"read-only", boolean(true)}, {"size-limit", u64(MiB)}};
  const std::string object = attach(file, plain);
  ASSERT_FALSE(object.empty());
  const std::vector<Options> others{
      {{"read-only", boolean(true)}, {"size-limit", u64(MiB)}, {"offset", u64(512)}},
      {{"read-only", boolean(true)}, {"size-limit", u64(2 * MiB)}},
      {{"read-only", boolean(true)}},
      {{"read-only", boolean(true)}, {"size-limit", u64(MiB)}, {"block-size", u32(4096)}},
      {{"size-limit", u64(MiB)}, {"allow-overlap", boolean(true)}},
  };
  std::set<std::string> seen{object};
  for (Options wishes : others) {
    wishes.emplace_back("reuse", boolean(true));
    const std::string another = attach(file, wishes);
    ASSERT_FALSE(another.empty());
    EXPECT_TRUE(seen.insert(another).second) << "reused " << another << " for " << options(wishes);
  }
  Options same = plain;
  same.emplace_back("reuse", boolean(true));
  same.emplace_back("block-size", u32(512));
  EXPECT_EQ(attach(file, same), object) << "512 is what it has";
}

TEST_F(Reuse, FindsTheBlockSizeThatTheImageIsMadeForAgain) {
  const ScratchFile file(8 * MiB);
  write_gpt(file.fd(), 8 * MiB, {{MiB, MiB, "one"}}, 4096);
  const std::string object = attach(file, {{"block-size-auto", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const Reply again =
      root().attach(file.fd(), {{"block-size-auto", boolean(true)}, {"reuse", boolean(true)}});
  ASSERT_TRUE(succeeds(again));
  EXPECT_EQ(again.values.at(0), path(object));
}

TEST_F(Reuse, RefusesAnotherReference) {
  const ScratchFile file(MiB);
  ASSERT_FALSE(attach(file, {{"reference", text("reused-one")}}).empty());
  EXPECT_TRUE(
      fails_with(root().attach(file.fd(), {{"reuse", boolean(true)}, {"reference", text("reused-two")}}),
                 invalid_args, "reference"));
  EXPECT_TRUE(
      succeeds(root().attach(file.fd(), {{"reuse", boolean(true)}, {"reference", text("reused-one")}})));
  EXPECT_EQ(devices_of(file.fd()).size(), 1U);
}

TEST_F(Reuse, RefusesAnotherKindOfInputAndOutput) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  ASSERT_EQ(properties_of(object).at("DirectIO"), boolean(false));
  EXPECT_TRUE(fails_with(root().attach(file.fd(), {{"reuse", boolean(true)}, {"direct-io", boolean(true)}}),
                         invalid_args, "direct-io"));
  EXPECT_EQ(devices_of(file.fd()).size(), 1U);
}

TEST_F(Reuse, RefusesDirectIoAskedAwayFromADeviceThatHasIt) {
  const ScratchFile file(MiB);
  const std::string object = attach(file, {{"direct-io", boolean(true)}});
  ASSERT_FALSE(object.empty());
  if (!properties_of(object).at("DirectIO").truth()) GTEST_SKIP() << "no direct I/O on this file system";
  EXPECT_TRUE(fails_with(root().attach(file.fd(), {{"reuse", boolean(true)}, {"direct-io", boolean(false)}}),
                         invalid_args, "direct-io"));
}

TEST_F(Reuse, RefusesADeviceWhosePartitionsAreNotKept) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  ASSERT_FALSE(attach(file).empty());
  EXPECT_TRUE(
      fails_with(root().attach(file.fd(), {{"reuse", boolean(true)}, {"partition-scan", boolean(true)}}),
                 invalid_args, "partition-scan"));
}

TEST_F(Reuse, RefusesPartitionsAskedAwayFromADeviceThatKeepsThem) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  ASSERT_FALSE(attach(file, {{"partition-scan", boolean(true)}}).empty());
  EXPECT_TRUE(
      fails_with(root().attach(file.fd(), {{"reuse", boolean(true)}, {"partition-scan", boolean(false)}}),
                 invalid_args, "partition-scan"));
}

TEST_F(Reuse, RefusesALeaseWithIt) {
  const ScratchFile file(MiB);
  EXPECT_TRUE(fails_with(root().attach(file.fd(), {{"reuse", boolean(true)}, {"lease", boolean(true)}}),
                         invalid_args, "lease"));
  EXPECT_TRUE(devices_of(file.fd()).empty());
}

TEST_F(Reuse, NeverTakesAnotherUsersDevice) {
  const ScratchFile file(MiB, "allowed-reuse.img");
  const Options wishes{{"read-only", boolean(true)}, {"reuse", boolean(true)}};
  const auto first = connect(allowed_user);
  const auto second = connect(another_user);
  const std::string of_first = attach_as(*first, file.fd(), wishes);
  const std::string of_second = attach_as(*second, file.fd(), wishes);
  const std::string of_root = attach(file, wishes);
  EXPECT_EQ((std::set<std::string>{of_first, of_second, of_root}).size(), 3U);
  EXPECT_EQ(attach_as(*connect(allowed_user), file.fd(), wishes), of_first);
  EXPECT_EQ(attach_as(*connect(another_user), file.fd(), wishes), of_second);
  EXPECT_EQ(properties_of(of_first).at("OwnerUID"), u32(allowed_user));
  EXPECT_EQ(properties_of(of_second).at("OwnerUID"), u32(another_user));
}

TEST_F(Reuse, DoesNotGiveADeviceThatLosetupHasJustDetached) {
  for (int cycle = 0; cycle < 10; ++cycle) {
    const ScratchFile file(MiB);
    const std::string object = attach(file);
    ASSERT_FALSE(object.empty());
    ASSERT_EQ(kernel_detach(number_of(object)), 0);
    const std::string again = attach(file, {{"reuse", boolean(true)}});
    ASSERT_FALSE(again.empty());
    EXPECT_EQ(sysfs(number_of(again), "loop/backing_file"), file.path()) << "cycle " << cycle;
    if (is_attached(number_of(again))) {
      EXPECT_TRUE(succeeds(root().device(again, "Remove")));
    }
  }
}

TEST_F(Reuse, ByManyAtOnceGivesOneDevice) {
  const auto other = connect();
  for (int round = 0; round < 10; ++round) {
    const ScratchFile file(MiB);
    Replies replies;
    for (int i = 0; i < 4; ++i) {
      replies.push_back(root().start(attach_call(file.fd(), {{"reuse", boolean(true)}})));
      replies.push_back(other->start(attach_call(file.fd(), {{"reuse", boolean(true)}})));
    }
    std::set<std::string> objects;
    for (size_t i = 0; i < replies.size(); ++i) {
      const auto& reply = replies[i];
      auto& client = i % 2 == 0 ? root() : *other;
      ASSERT_TRUE(client.wait_for([&] { return reply->has_value(); }));
      ASSERT_TRUE(succeeds(**reply));
      objects.insert((*reply)->values.at(0).text);
    }
    EXPECT_EQ(objects.size(), 1U);
    EXPECT_EQ(devices_of(file.fd()).size(), 1U);
    for (const std::string& object : objects) EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  }
}

class Overlap : public OptionsFixture {
 protected:
  // Attached first, wished second: refused by default, and the message says by what.
  void expect_refused(const ScratchFile& file, const Options& first, const Options& second,
                      const std::vector<std::string>& named) {
    const std::string object = attach(file, first);
    ASSERT_FALSE(object.empty());
    const Reply refused = root().attach(file.fd(), second);
    EXPECT_TRUE(fails_with(refused, overlap_error, node_of(number_of(object))));
    for (const std::string& number : named) EXPECT_TRUE(fails_with(refused, overlap_error, number));
    EXPECT_EQ(devices_of(file.fd()).size(), 1U);
    Options allowed = second;
    allowed.emplace_back("allow-overlap", boolean(true));
    const std::string beside = attach(file, allowed);
    EXPECT_FALSE(beside.empty());
    if (!beside.empty()) {
      EXPECT_TRUE(succeeds(root().device(beside, "Remove")));
    }
    EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  }

  void expect_allowed(const ScratchFile& file, const Options& first, const Options& second) {
    const std::string object = attach(file, first);
    const std::string beside = attach(file, second);
    EXPECT_EQ(devices_of(file.fd()).size(), 2U);
    for (const std::string& made : {object, beside}) {
      if (!made.empty()) {
        EXPECT_TRUE(succeeds(root().device(made, "Remove")));
      }
    }
  }
};

TEST_F(Overlap, OfTheWholeFileIsRefused) {
  const ScratchFile file(4 * MiB);
  expect_refused(file, {}, {}, {"0"});
}

TEST_F(Overlap, WithALimitIsRefusedAndTheMessageNamesTheRange) {
  const ScratchFile file(4 * MiB);
  expect_refused(file, {{"offset", u64(MiB)}, {"size-limit", u64(MiB)}},
                 {{"offset", u64(MiB + 512 * KiB)}, {"size-limit", u64(MiB)}}, {"1048576", "2097152"});
}

TEST_F(Overlap, OfOneSectorIsRefused) {
  const ScratchFile file(4 * MiB);
  expect_refused(file, {{"size-limit", u64(MiB)}}, {{"offset", u64(MiB - 512)}, {"size-limit", u64(512)}},
                 {"1048576"});
}

TEST_F(Overlap, WithADeviceWithoutALimitIsRefused) {
  const ScratchFile file(4 * MiB);
  expect_refused(file, {{"offset", u64(MiB)}}, {{"offset", u64(3 * MiB)}, {"size-limit", u64(MiB)}},
                 {"1048576"});
  expect_refused(file, {{"offset", u64(3 * MiB)}, {"size-limit", u64(MiB)}}, {{"offset", u64(MiB)}},
                 {"3145728", "4194304"});
}

TEST_F(Overlap, OfAWritableOneWithAReadOnlyOneIsRefused) {
  const ScratchFile file(4 * MiB);
  expect_refused(file, {{"read-only", boolean(true)}}, {}, {"0"});
  expect_refused(file, {}, {{"read-only", boolean(true)}}, {"0"});
}

TEST_F(Overlap, OfReadOnlyOnesIsAllowed) {
  const ScratchFile file(4 * MiB);
  expect_allowed(file, {{"read-only", boolean(true)}}, {{"read-only", boolean(true)}});
  expect_allowed(file, {{"read-only", boolean(true)}, {"size-limit", u64(2 * MiB)}},
                 {{"read-only", boolean(true)}, {"offset", u64(MiB)}});
}

TEST_F(Overlap, IsNoneWhereTheRangesAreAdjacent) {
  const ScratchFile file(4 * MiB);
  expect_allowed(file, {{"offset", u64(MiB)}, {"size-limit", u64(MiB)}},
                 {{"offset", u64(2 * MiB)}, {"size-limit", u64(MiB)}});
  expect_allowed(file, {{"offset", u64(MiB)}, {"size-limit", u64(MiB)}}, {{"size-limit", u64(MiB)}});
  expect_allowed(file, {{"size-limit", u64(MiB)}}, {{"offset", u64(MiB)}});
}

TEST_F(Overlap, IsNoneOfRangesThatAreFarApart) {
  const ScratchFile file(8 * MiB);
  expect_allowed(file, {{"offset", u64(MiB)}, {"size-limit", u64(3 * MiB)}},
                 {{"offset", u64(6 * MiB)}, {"size-limit", u64(MiB)}});
}

TEST_F(Overlap, WithADeviceOfLosetupIsRefused) {
  const ScratchFile file(4 * MiB);
  const unsigned number = own_number();
  ASSERT_EQ(run({"losetup", "--offset=1048576", "--sizelimit=1048576", node_of(number), file.path()}).status,
            0);
  ASSERT_TRUE(
      root().wait_for([&] { return root().find_signal("InterfacesAdded", object_of(number)) != nullptr; }));
  EXPECT_TRUE(fails_with(root().attach(file.fd()), overlap_error, node_of(number)));
  EXPECT_TRUE(fails_with(root().attach(file.fd()), overlap_error, "2097152"));
  const std::string before = attach(file, {{"size-limit", u64(MiB)}});
  EXPECT_FALSE(before.empty());
  EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove")));
}

TEST_F(Overlap, WithADeviceOfLosetupIsRefusedBeforeUdevHasToldOfIt) {
  for (int cycle = 0; cycle < 10; ++cycle) {
    const ScratchFile file(MiB);
    const unsigned number = own_number();
    ASSERT_EQ(kernel_attach(number, file.fd()), 0);
    const Reply reply = root().attach(file.fd());
    EXPECT_TRUE(fails_with(reply, overlap_error, node_of(number))) << "cycle " << cycle;
    if (reply.ok()) {
      EXPECT_TRUE(succeeds(root().device(reply.values.at(0).text, "Remove")));
    }
    EXPECT_EQ(kernel_detach(number), 0);
  }
}

TEST_F(Overlap, WithADeviceThatLosetupHasJustDetachedIsNone) {
  for (int cycle = 0; cycle < 10; ++cycle) {
    const ScratchFile file(MiB);
    const std::string object = attach(file);
    ASSERT_FALSE(object.empty());
    ASSERT_EQ(kernel_detach(number_of(object)), 0);
    const std::string again = attach(file);
    ASSERT_FALSE(again.empty()) << "cycle " << cycle;
    EXPECT_TRUE(succeeds(root().device(again, "Remove")));
  }
}

TEST_F(Overlap, OfABlockDeviceIsRefusedToo) {
  const ScratchFile file(4 * MiB);
  const std::string lower = attach(file);
  ASSERT_FALSE(lower.empty());
  const loop::UniqueFd disk(::open(node_of(number_of(lower)).c_str(), O_RDWR | O_CLOEXEC));
  const std::string upper = attach(disk.get(), {{"size-limit", u64(MiB)}});
  ASSERT_FALSE(upper.empty());
  EXPECT_TRUE(fails_with(root().attach(disk.get()), overlap_error, node_of(number_of(upper))));
  const std::string beside = attach(disk.get(), {{"offset", u64(MiB)}, {"size-limit", u64(MiB)}});
  EXPECT_FALSE(beside.empty());
  const Reply same = root().attach(disk.get(), {{"size-limit", u64(MiB)}, {"reuse", boolean(true)}});
  ASSERT_TRUE(succeeds(same));
  EXPECT_EQ(same.values.at(0), path(upper));
  for (const std::string& object : {beside, upper}) {
    if (!object.empty()) {
      EXPECT_TRUE(succeeds(root().device(object, "Remove")));
    }
  }
}

TEST_F(Overlap, IsDecidedForOneAfterTheOther) {
  const auto other = connect();
  for (int round = 0; round < 10; ++round) {
    const ScratchFile file(MiB);
    Replies replies;
    for (int i = 0; i < 4; ++i) {
      replies.push_back(root().start(attach_call(file.fd(), {})));
      replies.push_back(other->start(attach_call(file.fd(), {})));
    }
    std::vector<std::string> attached;
    for (size_t i = 0; i < replies.size(); ++i) {
      const auto& reply = replies[i];
      // Who called is who hears of it.
      auto& client = i % 2 == 0 ? root() : *other;
      ASSERT_TRUE(client.wait_for([&] { return reply->has_value(); }));
      if ((*reply)->ok()) {
        attached.push_back((*reply)->values.at(0).text);
      } else {
        EXPECT_TRUE(fails_with(**reply, overlap_error));
      }
    }
    EXPECT_EQ(attached.size(), 1U);
    for (const std::string& object : attached) EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  }
}

class BlockSizeAuto : public OptionsFixture {};

TEST_F(BlockSizeAuto, FindsTheSizeThatTheTableIsMadeFor) {
  for (const unsigned size : {512U, 1024U, 2048U, 4096U}) {
    const ScratchFile file(8 * MiB);
    write_gpt(file.fd(), 8 * MiB, {{MiB, MiB, "one"}, {3 * MiB, 2 * MiB, "two"}}, size);
    const std::string object =
        attach(file, {{"block-size-auto", boolean(true)}, {"partition-scan", boolean(true)}});
    ASSERT_FALSE(object.empty()) << size;
    const Value all = properties_of(object);
    EXPECT_EQ(all.at("BlockSize"), u32(size));
    EXPECT_EQ(sysfs(number_of(object), "queue/logical_block_size"), std::to_string(size));
    EXPECT_EQ(all.at("Partitions").texts(), (std::vector<std::string>{object + "/p1", object + "/p2"}));
    const Value second = properties_of(object + "/p2", partition_interface);
    EXPECT_EQ(second.at("Offset"), u64(3 * MiB));
    EXPECT_EQ(second.at("Size"), u64(2 * MiB));
    EXPECT_EQ(second.at("Name"), text("two"));
    EXPECT_TRUE(node_exists(number_of(object), 2));
    EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  }
}

TEST_F(BlockSizeAuto, FindsItAtAnOffset) {
  const ScratchFile file(10 * MiB);
  const auto image = loop::testing::memory_file(8 * MiB);
  write_gpt(image.get(), 8 * MiB, {{MiB, MiB, "one"}}, 4096);
  write_at(file.fd(), MiB, loop::testing::read_at(image.get(), 0, 8 * MiB));
  const std::string object = attach(file, {{"offset", u64(MiB)},
                                           {"size-limit", u64(8 * MiB)},
                                           {"block-size-auto", boolean(true)},
                                           {"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  EXPECT_EQ(properties_of(object).at("BlockSize"), u32(4096));
  EXPECT_EQ(sysfs_partitions(number_of(object)), std::vector<unsigned>{1});
}

TEST_F(BlockSizeAuto, TakesTheKernelsDefaultWhereThereIsNoTable) {
  const ScratchFile file(MiB);
  const ScratchFile mbr(20 * MiB);
  partition(mbr, mbr_with_logicals);
  EXPECT_EQ(properties_of(attach(file, {{"block-size-auto", boolean(true)}})).at("BlockSize"), u32(512));
  EXPECT_EQ(properties_of(attach(mbr, {{"block-size-auto", boolean(true)}})).at("BlockSize"), u32(512));
}

TEST_F(BlockSizeAuto, RefusesTwoTables) {
  const ScratchFile file(8 * MiB);
  write_gpt(file.fd(), 8 * MiB, {{MiB, MiB, "one"}}, 512);
  const auto other = loop::testing::memory_file(8 * MiB);
  write_gpt(other.get(), 8 * MiB, {{MiB, MiB, "one"}}, 4096);
  // That for 4096 in front, that for 512 by its copy at the end.
  write_at(file.fd(), 0, loop::testing::read_at(other.get(), 0, 64 * KiB));
  const Reply refused = root().attach(file.fd(), {{"block-size-auto", boolean(true)}});
  EXPECT_TRUE(fails_with(refused, invalid_args, "block-size-auto"));
  EXPECT_TRUE(fails_with(refused, invalid_args, "512"));
  EXPECT_TRUE(fails_with(refused, invalid_args, "4096"));
  EXPECT_TRUE(devices_of(file.fd()).empty());
  EXPECT_EQ(properties_of(attach(file, {{"block-size", u32(4096)}})).at("BlockSize"), u32(4096));
}

TEST_F(BlockSizeAuto, RefusesABlockSizeWithIt) {
  const ScratchFile file(MiB);
  EXPECT_TRUE(
      fails_with(root().attach(file.fd(), {{"block-size-auto", boolean(true)}, {"block-size", u32(4096)}}),
                 invalid_args, "block-size"));
  const std::string object = attach(file, {{"block-size-auto", boolean(false)}, {"block-size", u32(4096)}});
  EXPECT_EQ(properties_of(object).at("BlockSize"), u32(4096));
}

class Probe : public OptionsFixture {
 protected:
  Reply probe(int file, const Options& wishes = {}) {
    return root().manager("Probe", {handle(file), options(wishes)});
  }
  Value facts_of(int file, const Options& wishes = {}) {
    const Reply reply = probe(file, wishes);
    EXPECT_TRUE(succeeds(reply));
    return reply.ok() ? reply.values.at(0) : Value{};
  }
};

TEST_F(Probe, TellsEveryFact) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const Value facts = facts_of(file.fd());
  EXPECT_EQ(facts.at("size"), u64(8 * MiB));
  EXPECT_EQ(facts.at("block-size"), u32(512));
  EXPECT_EQ(facts.at("wasted-bytes"), u64(0));
  EXPECT_EQ(facts.at("table"), text("gpt"));
  EXPECT_EQ(facts.at("partitions"), u32(5));
  EXPECT_EQ(facts.at("overlaps").element, "o");
  EXPECT_TRUE(facts.at("overlaps").items.empty());
  EXPECT_EQ(facts.at("direct-io").type, 'b');
  EXPECT_EQ(facts.at("format"), text("raw"));
  EXPECT_EQ(facts.items.size(), 8U) << facts;
}

TEST_F(Probe, AttachesNothing) {
  const ScratchFile file(MiB);
  facts_of(file.fd(),
           {{"partition-scan", boolean(true)}, {"lease", boolean(true)}, {"reuse", boolean(false)}});
  facts_of(file.fd(), {{"number", u32(own_number())}});
  EXPECT_TRUE(devices_of(file.fd()).empty());
  EXPECT_EQ(run({"losetup", "--noheadings", "--associated", file.path()}).output, "");
}

TEST_F(Probe, AgreesWithWhatAttachDoesThen) {
  const ScratchFile gpt(8 * MiB);
  partition(gpt, gpt_with_five_partitions);
  const ScratchFile mbr(20 * MiB);
  partition(mbr, mbr_with_logicals);
  const ScratchFile large_sectors(8 * MiB);
  write_gpt(large_sectors.fd(), 8 * MiB, {{MiB, MiB, "one"}, {3 * MiB, MiB, "two"}}, 4096);
  const ScratchFile odd(MiB + 1300);
  const ScratchFile plain(4 * MiB);
  struct Case {
    const ScratchFile& file;
    Options wishes;
    uint64_t wasted;
  };
  const std::vector<Case> cases{
      {gpt, {}, 0},
      {gpt, {{"size-limit", u64(5 * MiB + 100)}}, 100},  // two of its partitions lie beyond
      {mbr, {}, 0},
      {large_sectors, {{"block-size-auto", boolean(true)}}, 0},
      {large_sectors, {{"block-size", u32(4096)}}, 0},
      {large_sectors, {}, 0},
      {odd, {}, 276},
      {odd, {{"offset", u64(1024)}}, 276},
      {odd, {{"size-limit", u64(8 * MiB)}}, 276},
      {plain, {{"offset", u64(MiB)}, {"size-limit", u64(2 * MiB)}, {"block-size", u32(2048)}}, 0},
      {plain, {{"read-only", boolean(true)}}, 0},
  };
  for (const Case& c : cases) {
    Options wishes = c.wishes;
    wishes.emplace_back("partition-scan", boolean(true));
    const Value facts = facts_of(c.file.fd(), wishes);
    const std::string object = attach(c.file, wishes);
    ASSERT_FALSE(object.empty());
    const Value all = properties_of(object);
    EXPECT_EQ(facts.at("size"), all.at("Size")) << options(wishes);
    EXPECT_EQ(facts.at("block-size"), all.at("BlockSize")) << options(wishes);
    EXPECT_EQ(facts.at("partitions"), u32(static_cast<uint32_t>(all.at("Partitions").items.size())))
        << options(wishes);
    EXPECT_EQ(facts.at("wasted-bytes"), u64(c.wasted)) << options(wishes);
    EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  }
}

TEST_F(Probe, TellsWhetherDirectIoIsPossible) {
  const ScratchFile file(MiB);
  for (const Options& range : {Options{}, Options{{"offset", u64(512)}}, Options{{"offset", u64(100)}}}) {
    const Value facts = facts_of(file.fd(), range);
    Options wishes = range;
    wishes.emplace_back("direct-io", boolean(true));
    const std::string object = attach(file, wishes);
    ASSERT_FALSE(object.empty());
    EXPECT_EQ(facts.at("direct-io"), properties_of(object).at("DirectIO")) << options(range);
    EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  }
}

TEST_F(Probe, NamesTheDevicesThatOverlap) {
  const ScratchFile file(4 * MiB);
  const std::string front = attach(file, {{"size-limit", u64(MiB)}});
  const std::string back = attach(file, {{"offset", u64(2 * MiB)}, {"size-limit", u64(MiB)}});
  const auto overlaps = [&](const Options& wishes) {
    std::vector<std::string> found = facts_of(file.fd(), wishes).at("overlaps").texts();
    std::sort(found.begin(), found.end());
    return found;
  };
  std::vector<std::string> both{front, back};
  std::sort(both.begin(), both.end());
  EXPECT_EQ(overlaps({}), both);
  EXPECT_EQ(overlaps({{"read-only", boolean(true)}}), both);
  EXPECT_EQ(overlaps({{"offset", u64(MiB)}}), std::vector<std::string>{back});
  EXPECT_EQ(overlaps({{"offset", u64(MiB)}, {"size-limit", u64(MiB)}}), std::vector<std::string>{});
}

TEST_F(Probe, KnowsImagesThatAreNotRaw) {
  struct Format {
    const char* name;
    uint64_t offset;
    std::string magic;
  };
  const std::vector<Format> formats{
      {"qcow2", 0, std::string("QFI\xfb\0\0\0\3", 8)},
      {"qed", 0, std::string("QED\0", 4)},
      {"vmdk", 0, std::string("KDMV\1\0\0\0", 8)},
      {"vmdk", 0, "# Disk DescriptorFile\nversion=1\n"},
      {"vhd", 0, "conectix"},
      {"vhd", MiB - 512, "conectix"},
      {"vhdx", 0, "vhdxfile"},
      {"vdi", 0, "<<< Oracle VM VirtualBox Disk Image >>>\n" + std::string(24, '\0') + "\x7f\x10\xda\xbe"},
  };
  for (const Format& format : formats) {
    const ScratchFile file(MiB);
    file.write(format.offset, format.magic);
    EXPECT_EQ(facts_of(file.fd()).at("format"), text(format.name)) << "at " << format.offset;
  }
}

TEST_F(Probe, RefusesWhatAttachRefuses) {
  const ScratchFile file(MiB);
  const loop::UniqueFd reading = file.open(O_RDONLY);
  const loop::UniqueFd path_only = file.open(O_PATH);
  EXPECT_TRUE(fails_with(probe(file.fd(), {{"nonsense", u32(1)}}), invalid_args, "nonsense"));
  EXPECT_TRUE(fails_with(probe(file.fd(), {{"offset", u32(1)}}), invalid_args, "offset"));
  EXPECT_TRUE(fails_with(probe(file.fd(), {{"offset", u64(MiB)}}), invalid_args, "offset"));
  EXPECT_TRUE(fails_with(probe(file.fd(), {{"block-size", u32(1000)}}), invalid_args, "block-size"));
  EXPECT_TRUE(fails_with(probe(file.fd(), {{"reuse", boolean(true)}, {"lease", boolean(true)}}), invalid_args,
                         "lease"));
  EXPECT_TRUE(fails_with(probe(path_only.get()), invalid_args, "file"));
  EXPECT_TRUE(fails_with(probe(reading.get()), not_writable, "file"));
  EXPECT_EQ(facts_of(reading.get(), {{"read-only", boolean(true)}}).at("size"), u64(MiB));
}

TEST_F(Probe, NeedsThePermissionToAttach) {
  const ScratchFile file(MiB, "allowed-but-not-to-probe.img");  // the rule is for Attach
  const auto user = connect(ordinary_user);
  const auto mail = connect(allowed_user);
  const std::vector<Value> arguments{handle(file.fd()), options({})};
  EXPECT_TRUE(fails_with(user->manager("Probe", arguments), interactive_authorization_required));
  EXPECT_TRUE(fails_with(mail->manager("Probe", arguments), interactive_authorization_required));
}

}  // namespace
}  // namespace bus_test
