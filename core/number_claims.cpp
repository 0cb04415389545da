// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/number_claims.hpp"

#include <utility>

namespace loop {

NumberClaims::Claim::Claim(std::shared_ptr<NumberClaims> claims, unsigned number)
    : claims_(std::move(claims)), number_(number) {
  claims_->claim(number_);
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
  if (const auto claims = std::exchange(claims_, nullptr)) claims->release(number_);
}

void NumberClaims::release(unsigned number) {
  const std::lock_guard lock(mutex_);
  --counts_.at(number).now;
}

void NumberClaims::claim(unsigned number) {
  const std::lock_guard lock(mutex_);
  Count& count = counts_[number];
  ++count.now;
  ++count.ever;
}

bool NumberClaims::claimed(unsigned number) const {
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(number);
  return found != counts_.end() && found->second.now != 0;
}

uint64_t NumberClaims::count(unsigned number) const {
  const std::lock_guard lock(mutex_);
  const auto found = counts_.find(number);
  return found == counts_.end() ? 0 : found->second.ever;
}

}  // namespace loop
