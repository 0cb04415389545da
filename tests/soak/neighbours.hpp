// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/soak/world.hpp"

namespace soak {

// Others who use loop devices beside the service, and know nothing of it: losetup,
// partx, mount, each in a thread, in a circle until this ends.
class Neighbours {
 public:
  explicit Neighbours(World& world);
  ~Neighbours() { end(); }

  void end();

 private:
  void losetup(unsigned round);
  void partx(unsigned round);
  void mount(unsigned round);
  void begin(const std::function<void(unsigned)>& work);

  std::string attach(const std::string& path, const std::string& name, const std::string& device);
  void detach(const std::string& node);

  World& world_;
  std::atomic<bool> ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace soak
