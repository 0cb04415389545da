// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/task_group.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <vector>

#include "dbus/one_shot.hpp"

namespace loopd {
namespace {

// Posts alone, which run when they are told to.
class PostsOnly final : public Scheduler {
 public:
  void post(std::function<void()> work) override { posted_.push_back(std::move(work)); }
  void submit(WorkLane, std::function<void()>) override { throw std::logic_error("no workers here"); }
  std::unique_ptr<Registration> at(Clock::time_point, std::function<void()>) override { return nullptr; }
  std::unique_ptr<Registration> on_readable(int, std::function<void()>) override { return nullptr; }

  void run() {
    while (!posted_.empty()) {
      const auto now = std::exchange(posted_, {});
      for (const auto& work : now) work();
    }
  }

 private:
  std::vector<std::function<void()>> posted_;
};

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

  PostsOnly scheduler_;
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

}  // namespace
}  // namespace loopd
