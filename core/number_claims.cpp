// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/number_claims.hpp"

#include <utility>

namespace loop {

NumberClaims::Claim::Claim(std::shared_ptr<NumberClaims> claims, unsigned number)
    : claims_(std::move(claims)), number_(number) {
  const std::lock_guard lock(claims_->mutex_);
  ++claims_->counts_[number_];
}

NumberClaims::Claim& NumberClaims::Claim::operator=(Claim&& other) noexcept {
  if (this != &other) {
    release();
    claims_ = std::move(other.claims_);
    number_ = other.number_;
  }
  return *this;
}

NumberClaims::Claim::~Claim() { release(); }

void NumberClaims::Claim::release() {
  const auto claims = std::exchange(claims_, nullptr);
  if (!claims) return;
  const std::lock_guard lock(claims->mutex_);
  const auto found = claims->counts_.find(number_);
  if (--found->second == 0) claims->counts_.erase(found);
}

void NumberClaims::claim_for_ever(unsigned number) {
  const std::lock_guard lock(mutex_);
  ++counts_[number];
}

bool NumberClaims::claimed(unsigned number) const {
  const std::lock_guard lock(mutex_);
  return counts_.contains(number);
}

}  // namespace loop
