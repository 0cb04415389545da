// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

namespace loop {

// Numbers that an operation is changing right now. A claim excludes nobody; it
// tells whoever follows the kernel's events that what they see of loopN is
// half-way, so that they look again when the claim is gone. Thread-safe.
class NumberClaims {
 public:
  class Claim {
   public:
    Claim() = default;
    Claim(std::shared_ptr<NumberClaims> claims, unsigned number);
    Claim(Claim&& other) noexcept = default;
    Claim& operator=(Claim&& other) noexcept;
    ~Claim();
    void release();

   private:
    std::shared_ptr<NumberClaims> claims_;
    unsigned number_ = 0;
  };

  bool claimed(unsigned number) const;

  // How often the number was claimed so far. What was seen of it before one of these
  // began says nothing of what it is after that has ended.
  uint64_t count(unsigned number) const;

  // Without an object that ends the claim.
  void claim(unsigned number);
  void release(unsigned number);

 private:
  struct Count {
    unsigned now = 0;
    uint64_t ever = 0;
  };

  mutable std::mutex mutex_;
  std::map<unsigned, Count> counts_;  // of each number that was claimed once
};

}  // namespace loop
