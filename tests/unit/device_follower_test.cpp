// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What is found when the service starts, while others go on: each piece of its work is
// carried out when the test says so.
#include "tests/support/image.hpp"
#include "tests/unit/operations_fixture.hpp"

namespace loopd {
namespace {

using loop::AttachmentRecord;

class AFollower : public OperationsOnAScriptedKernel {
 protected:
  // A device with a record, as a service before this one left it.
  AttachmentRecord attach_with_record() {
    kernel_.foreign_attach(number);
    AttachmentRecord record;
    record.number = number;
    record.disk_sequence = kernel_.sequence(number);
    record.owner = 1000;
    record.served_locally = true;
    record.keeps_partitions = true;
    records_.write(record);
    return record;
  }

  void run(Task<void> task) {
    start(std::move(task));
    EXPECT_TRUE(tasks_.empty()) << "it does not end";
  }
};

TEST_F(AFollower, KnowsByTheRecordWhoseADeviceIs) {
  attach_with_record();
  run(follower_.start());
  const Device* device = registry_.find(number);
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->terms.owner, 1000U);
  EXPECT_EQ(records_.all().size(), 1U);
}

TEST_F(AFollower, ErasesTheRecordOfWhatGoesBetweenTheTwoLooksOfTheStart) {
  attach_with_record();
  kernel_.foreign_partition(number, {1, 4096, 4096});
  scheduler_.after_next_work([this] { kernel_.foreign_detach(number); });
  run(follower_.start());
  EXPECT_EQ(registry_.find(number), nullptr);
  EXPECT_TRUE(records_.all().empty());
  EXPECT_TRUE(kernel_.partitions(number).empty()) << "it kept them, and nobody else will delete them";
}

TEST_F(AFollower, ErasesTheRecordOfWhatBecomesAnothersAtTheStart) {
  const AttachmentRecord record = attach_with_record();
  scheduler_.after_next_work([this] {
    kernel_.foreign_detach(number);
    kernel_.foreign_attach(number);
  });
  run(follower_.start());
  const Device* device = registry_.find(number);
  ASSERT_NE(device, nullptr);
  EXPECT_NE(device->snapshot.disk_sequence, record.disk_sequence);
  EXPECT_EQ(device->terms.owner, 0U) << "it is nobody's who had the number before";
  EXPECT_TRUE(records_.all().empty());
}

// By name and reference, and above all by what overlaps it, it is still to be found.
TEST_F(AFollower, KeepsWhatItKnewOfADeviceThatDoesNotAnswer) {
  const loop::UniqueFd file = directory_.make_file("image", 64 * loop::testing::kib);
  kernel_.foreign_attach(number, file.get());
  run(follower_.start());
  ASSERT_NE(registry_.find(number), nullptr);
  const loop::DeviceSnapshot before = registry_.find(number)->snapshot;
  ASSERT_TRUE(before.identified);
  scheduler_.hold_next_work();
  start(follower_.look(number));
  time_passes();
  EXPECT_TRUE(tasks_.empty()) << "it waits on";
  ASSERT_NE(registry_.find(number), nullptr);
  EXPECT_EQ(registry_.find(number)->snapshot, before);
}

// Its event is followed before the list that was made earlier is used.
TEST_F(AFollower, SeesAPartitionThatComesWhileTheStartLooks) {
  kernel_.foreign_attach(number);
  constexpr unsigned lists = 3;  // of partitions, records and numbers
  scheduler_.after_work(lists, [this] {
    kernel_.foreign_partition(number, {1, 4096, 4096});
    follower_.handle({.action = loop::DeviceEvent::Action::add,
                      .number = number,
                      .partition = 1,
                      .disk_sequence = kernel_.sequence(number)});
  });
  run(follower_.start());
  ASSERT_NE(registry_.find(number), nullptr);
  EXPECT_TRUE(registry_.find(number)->partitions.contains(1));
}

class AFollowerOfUdev : public AFollower {
 protected:
  AFollowerOfUdev() {
    follower_.use_udev([this](unsigned) {
      ++questions_;
      return links_;
    });
    kernel_.foreign_attach(number);
    run(follower_.start());
    registry_.subscribe(listener_);
  }
  ~AFollowerOfUdev() override { registry_.unsubscribe(listener_); }

  class Listener final : public RegistryListener {
   public:
    void device_added(const Device&) override {}
    void device_removed(const Device&) override {}
    void device_changed(const Device&, const std::vector<std::string>& properties) override {
      changed.insert(changed.end(), properties.begin(), properties.end());
    }
    void partition_added(const Device&, unsigned) override {}
    void partition_removed(const Device&, unsigned) override {}
    void partition_changed(const Device&, unsigned, const std::vector<std::string>&) override {}
    void symlinks_are_known() override { ++known; }

    std::vector<std::string> changed;
    int known = 0;
  };

  void add_symlinks_while_an_event_tells(const std::vector<std::string>& symlinks) {
    scheduler_.hold_next_work();
    start(follower_.add_symlinks());
    follower_.handle({.action = loop::DeviceEvent::Action::change,
                      .number = number,
                      .disk_sequence = kernel_.sequence(number),
                      .symlinks = symlinks});
    scheduler_.run();
    scheduler_.begin_held_work();
    scheduler_.run();
    EXPECT_TRUE(registry_.knows_symlinks());
  }

  std::vector<std::string> links_{"/dev/disk/by-label/a", "/dev/disk/by-uuid/b"};
  int questions_ = 0;
  Listener listener_;
};

TEST_F(AFollowerOfUdev, FindsLinksWhenTheStartIsDone) {
  ASSERT_NE(registry_.find(number), nullptr);
  EXPECT_EQ(questions_, 0) << "the start waits for them";
  EXPECT_FALSE(registry_.knows_symlinks());
  run(follower_.add_symlinks());
  EXPECT_EQ(registry_.find(number)->symlinks, links_);
  EXPECT_EQ(listener_.known, 1);
  EXPECT_TRUE(listener_.changed.empty()) << "nobody was told that there were none";
}

TEST_F(AFollowerOfUdev, KeepsWhatAnEventToldMeanwhile) {
  const std::vector<std::string> newer{"/dev/disk/by-label/newer"};
  add_symlinks_while_an_event_tells(newer);
  EXPECT_EQ(registry_.find(number)->symlinks, newer);
}

TEST_F(AFollowerOfUdev, KeepsThatAnEventToldOfNoLinksMeanwhile) {
  add_symlinks_while_an_event_tells({});
  EXPECT_TRUE(registry_.find(number)->symlinks.empty());
}

TEST_F(AFollowerOfUdev, AsksForEachByItselfWhereTheListIsNotToBeHad) {
  scheduler_.hold_next_work();
  start(follower_.add_symlinks());
  EXPECT_FALSE(registry_.knows_symlinks());
  time_passes();
  EXPECT_TRUE(tasks_.empty()) << "it waits on";
  EXPECT_EQ(registry_.find(number)->symlinks, links_);
  EXPECT_TRUE(registry_.knows_symlinks());
}

TEST_F(AFollowerOfUdev, GivesNoLinksOfAnAttachmentToTheNext) {
  scheduler_.hold_next_work();
  start(follower_.add_symlinks());
  kernel_.foreign_detach(number);
  kernel_.foreign_attach(number);
  links_.clear();
  start(follower_.look(number));
  links_ = {"/dev/disk/by-label/of-the-one-before"};
  scheduler_.begin_held_work();
  scheduler_.run();
  ASSERT_NE(registry_.find(number), nullptr);
  EXPECT_EQ(registry_.find(number)->snapshot.disk_sequence, kernel_.sequence(number));
  EXPECT_TRUE(registry_.find(number)->symlinks.empty());
}

TEST_F(AFollower, LeavesCallsUnderWayAloneWhenEventsWereLost) {
  run(follower_.start());
  AttachmentRecord removing = attach_with_record();
  removing.detaching = true;
  records_.write(removing);
  AttachmentRecord intent;
  intent.number = number + 1;
  intent.served_locally = true;
  records_.write_intent(intent);
  run(follower_.enumerate());
  EXPECT_NE(registry_.find(number), nullptr);
  EXPECT_EQ(records_.intents().size(), 1U);
  ASSERT_EQ(records_.all().size(), 1U);
  EXPECT_TRUE(records_.all()[0].detaching) << "a removal that has not ended was taken back";
}

}  // namespace
}  // namespace loopd
