// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The end of a lease, where the kernel does not let the service do it at once.
#include <gtest/gtest.h>

#include <cerrno>
#include <exception>

#include "core/attachment_records.hpp"
#include "core/file_helpers.hpp"
#include "core/loop_manager.hpp"
#include "core/path_opener.hpp"
#include "dbus/device_follower.hpp"
#include "dbus/object_registry.hpp"
#include "dbus/operations.hpp"
#include "dbus/task_group.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/step_by_step.hpp"

namespace loopd {
namespace {

using loop::testing::Call;

class ALease : public testing::Test {
 protected:
  static constexpr unsigned number = 3;
  static constexpr const char* bus = "the bus";
  static constexpr const char* holder = ":1.5";

  ALease() {
    kernel_.foreign_attach(number);
    loop::AttachmentRecord record;
    record.number = number;
    record.disk_sequence = kernel_.sequence(number);
    record.lease = holder;
    record.lease_bus = bus;
    records_.write(record);
    start(follower_.start());
    EXPECT_NE(registry_.find(number), nullptr);
  }

  void start(Task<void> task) {
    tasks_.start(std::move(task));
    scheduler_.run();
  }
  void holder_leaves() { start(operations_.removing().client_left(bus, holder)); }
  void time_passes() {
    scheduler_.let_timers_end();
    scheduler_.run();
  }

  bool is_attached() const { return kernel_.has_attribute(number, "loop"); }

  loop::testing::TemporaryDirectory directory_;
  loop::testing::FakeLoopKernel kernel_;
  loop::AttachmentRecords records_{directory_.file("state")};
  loop::LoopManager loops_{kernel_, &records_};
  loop::FileHelpers helpers_{loops_, "/nonexistent", std::chrono::seconds(1)};
  loop::PathOpener paths_;
  StepByStep scheduler_;
  TaskGroup tasks_{scheduler_, [](const std::exception_ptr&) { ADD_FAILURE() << "a task threw"; }};
  ObjectRegistry registry_;
  DeviceFollower follower_{scheduler_, tasks_, loops_, helpers_, registry_};
  Operations operations_{
      {scheduler_, loops_, paths_, helpers_, registry_, follower_, [](const std::string&) {}}, {}, tasks_};
};

TEST_F(ALease, EndsWhenItsHolderLeaves) {
  holder_leaves();
  EXPECT_FALSE(is_attached());
  EXPECT_EQ(registry_.find(number), nullptr);
  EXPECT_TRUE(records_.all().empty());
  EXPECT_TRUE(tasks_.empty()) << "it is tried again, though it was done";
}

TEST_F(ALease, IsNotEndedByAnotherBussClientOfThatName) {
  start(operations_.removing().client_left("another bus", holder));
  EXPECT_TRUE(is_attached());
  EXPECT_TRUE(tasks_.empty());
}

TEST_F(ALease, ThatCouldNotBeEndedIsTriedAgainUntilItIs) {
  constexpr int rounds = 5;
  kernel_.fail_always(Call::open_node, EMFILE);
  holder_leaves();
  for (int round = 0; round < rounds; ++round) {
    EXPECT_TRUE(is_attached());
    EXPECT_FALSE(tasks_.empty()) << "it is given up after " << round << " rounds";
    time_passes();
  }
  kernel_.fail_always(Call::open_node, 0);
  time_passes();
  EXPECT_FALSE(is_attached());
  EXPECT_EQ(registry_.find(number), nullptr);
  EXPECT_TRUE(records_.all().empty());
  EXPECT_TRUE(tasks_.empty()) << "it is tried again, though it was done";
}

TEST_F(ALease, IsOverWhereSomebodyElseDetachesTheDeviceMeanwhile) {
  kernel_.fail_always(Call::open_node, EMFILE);
  holder_leaves();
  kernel_.fail_always(Call::open_node, 0);
  kernel_.foreign_detach(number);
  kernel_.foreign_attach(number);
  time_passes();
  EXPECT_TRUE(is_attached()) << "it was another's";
  EXPECT_TRUE(tasks_.empty()) << "it is tried for ever";
}

}  // namespace
}  // namespace loopd
