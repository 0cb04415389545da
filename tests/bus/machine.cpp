// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/machine.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>

#include "tests/bus/scratch.hpp"
#include "tests/bus/stack.hpp"

namespace bus_test {
namespace {

std::unique_ptr<Udev> udev;

class Machine final : public testing::Environment {
 public:
  void SetUp() override {
    if (::geteuid() != 0) return;
    set_up_scratch();
    udev = std::make_unique<Udev>();
  }
  void TearDown() override {
    if (::geteuid() != 0) return;
    for (const std::string& device : tear_down_scratch()) {
      ADD_FAILURE() << device << " was left attached";
    }
    udev.reset();
  }
};

}  // namespace

void prepare_machine() { testing::AddGlobalTestEnvironment(new Machine); }

ChildProcess* own_udevd() { return udev->process(); }

}  // namespace bus_test
