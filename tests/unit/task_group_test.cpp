// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/task_group.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <vector>

#include "dbus/one_shot.hpp"
#include "tests/unit/step_by_step.hpp"

namespace loopd {
namespace {

class ATaskGroup : public testing::Test {
 protected:
  Task<void> wait_for_ever(std::shared_ptr<int> held) {
    OneShot<bool> never;
    co_await never;
    held.reset();
  }

  // As what a removal does after its answer: it is begun by the end of the call.
  Task<void> start_another_when_destroyed(std::shared_ptr<int> held) {
    struct Starter {
      ATaskGroup& test;
      std::shared_ptr<int> held;
      ~Starter() { test.group_.start(test.wait_for_ever(std::move(held))); }
    };
    const Starter starter{*this, held};
    co_await wait_for_ever(held);
  }

  StepByStep scheduler_;
  TaskGroup group_{scheduler_, [](const std::exception_ptr&) { FAIL() << "a task threw"; }};
  std::shared_ptr<int> held_ = std::make_shared<int>();
};

TEST_F(ATaskGroup, DestroysWhatStillWaits) {
  group_.start(wait_for_ever(held_));
  EXPECT_EQ(group_.size(), 1U);
  EXPECT_GT(held_.use_count(), 1);
  group_.clear();
  EXPECT_TRUE(group_.empty());
  EXPECT_EQ(held_.use_count(), 1);
}

TEST_F(ATaskGroup, KeepsNothingOfWhatATaskStartsAsItIsDestroyed) {
  for (int i = 0; i < 3; ++i) group_.start(start_another_when_destroyed(held_));
  group_.clear();
  scheduler_.run();
  EXPECT_TRUE(group_.empty());
  EXPECT_EQ(held_.use_count(), 1);
}

TEST_F(ATaskGroup, RunsTasksSideBySideAndWaitsForAll) {
  OneShot<bool> first;
  OneShot<bool> second;
  const auto wait = [](OneShot<bool>& until) -> Task<void> { co_await until; };
  std::vector<Task<void>> tasks;
  tasks.push_back(wait(first));
  tasks.push_back(wait(second));
  bool all = false;
  const auto wait_for_all = [&]() -> Task<void> {
    co_await side_by_side(group_, std::move(tasks));
    all = true;
  };
  group_.start(wait_for_all());
  second.sender().deliver(true);
  scheduler_.run();
  EXPECT_FALSE(all);
  first.sender().deliver(true);
  scheduler_.run();
  EXPECT_TRUE(all);
  EXPECT_TRUE(group_.empty());
}

// An attach, say, that was answered with a timeout and would be carried out all the same.
TEST_F(ATaskGroup, BeginsNoWorkThatWasGivenUpWhileItWaitedForAWorker) {
  bool done = false;
  bool gave_up = false;
  const auto work = [&]() -> Task<void> {
    try {
      co_await on_worker(
          scheduler_, WorkLane(), [&] { done = true; }, Clock::now());
    } catch (const WorkTimedOut&) {
      gave_up = true;
    }
  };
  scheduler_.hold_next_work();
  group_.start(work());
  scheduler_.let_timers_end();
  scheduler_.run();
  EXPECT_TRUE(gave_up);
  scheduler_.begin_held_work();
  EXPECT_FALSE(done);
}

}  // namespace
}  // namespace loopd
