// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The end of a lease, where the kernel does not let the service do it at once.
#include <cerrno>

#include "tests/unit/operations_fixture.hpp"

namespace loopd {
namespace {

using loop::testing::Call;

class ALease : public OperationsOnAScriptedKernel {
 protected:
  static constexpr const char* bus = "the bus";
  static constexpr const char* holder = ":1.5";

  void SetUp() override {
    loop::AttachmentTerms terms;
    terms.lease = holder;
    terms.lease_bus = bus;
    start_with(terms);
  }

  void expect_ended() {
    EXPECT_FALSE(is_attached());
    EXPECT_EQ(registry_.find(number), nullptr);
    EXPECT_TRUE(records_.all().empty());
    EXPECT_TRUE(tasks_.empty()) << "it is tried again, though it was done";
  }

  void holder_leaves() { start(operations_.removing().client_left(bus, holder)); }
};

TEST_F(ALease, EndsWhenItsHolderLeaves) {
  holder_leaves();
  expect_ended();
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
  expect_ended();
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
