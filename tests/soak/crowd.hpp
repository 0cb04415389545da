// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "tests/soak/world.hpp"

namespace soak {

// The clients, each in a thread, until there were so many cycles or they are
// told to stop.
class Crowd {
 public:
  Crowd(World& world, unsigned clients, unsigned cycles);
  ~Crowd();

  void stop() { left_ = 0; }
  void wait();

 private:
  bool take_one();
  void live(unsigned index);

  World& world_;
  std::atomic<int64_t> left_;
  std::vector<std::thread> threads_;
};

}  // namespace soak
