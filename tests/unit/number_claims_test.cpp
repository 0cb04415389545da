// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "core/number_claims.hpp"

namespace loop::testing {
namespace {

class AClaim : public ::testing::Test {
 protected:
  std::shared_ptr<NumberClaims> claims_ = std::make_shared<NumberClaims>();
};

TEST_F(AClaim, LastsAsLongAsItLives) {
  {
    const NumberClaims::Claim claim(claims_, 3);
    EXPECT_TRUE(claims_->claimed(3));
    EXPECT_FALSE(claims_->claimed(4));
  }
  EXPECT_FALSE(claims_->claimed(3));
}

TEST_F(AClaim, EndsWithTheLastOfSeveral) {
  NumberClaims::Claim first(claims_, 3);
  NumberClaims::Claim second(claims_, 3);
  first.release();
  first.release();  // twice is once
  EXPECT_TRUE(claims_->claimed(3));
  second.release();
  EXPECT_FALSE(claims_->claimed(3));
}

TEST_F(AClaim, IsRememberedByItsNumberWhenItHasEnded) {
  EXPECT_EQ(claims_->count(3), 0U);
  { const NumberClaims::Claim claim(claims_, 3); }
  EXPECT_FALSE(claims_->claimed(3));
  EXPECT_EQ(claims_->count(3), 1U);
  const NumberClaims::Claim second(claims_, 3);
  EXPECT_EQ(claims_->count(3), 2U);
  EXPECT_EQ(claims_->count(4), 0U);
}

TEST_F(AClaim, MovesWithoutEnding) {
  NumberClaims::Claim first(claims_, 3);
  NumberClaims::Claim second(std::move(first));
  EXPECT_TRUE(claims_->claimed(3));
  NumberClaims::Claim third(claims_, 4);
  third = std::move(second);
  EXPECT_TRUE(claims_->claimed(3));
  EXPECT_FALSE(claims_->claimed(4)) << "what was claimed before is released";
  third = NumberClaims::Claim();
  EXPECT_FALSE(claims_->claimed(3));
}

TEST_F(AClaim, MayOutliveWhoeverGaveIt) {
  const std::weak_ptr<NumberClaims> watched = claims_;
  {
    const NumberClaims::Claim claim(std::exchange(claims_, nullptr), 3);
    EXPECT_TRUE(watched.lock()->claimed(3));
  }
  EXPECT_TRUE(watched.expired());
}

TEST_F(AClaim, IsCountedAcrossThreads) {
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([this] {
        for (int round = 0; round < 1000; ++round) {
          const NumberClaims::Claim claim(claims_, 3);
          EXPECT_TRUE(claims_->claimed(3));
        }
      });
    }
  }
  EXPECT_FALSE(claims_->claimed(3));
}

}  // namespace
}  // namespace loop::testing
