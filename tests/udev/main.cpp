// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "tests/bus/scratch.hpp"
#include "tests/udev/private_udev.hpp"

namespace {

class Machine final : public testing::Environment {
 public:
  void SetUp() override {
    if (::geteuid() != 0) return;
    bus_test::set_up_scratch();
    udev_ = std::make_unique<udev_test::PrivateUdev>();
  }
  void TearDown() override {
    if (::geteuid() != 0) return;
    udev_.reset();
    for (const std::string& device : bus_test::tear_down_scratch()) {
      ADD_FAILURE() << device << " was left attached";
    }
  }

 private:
  std::unique_ptr<udev_test::PrivateUdev> udev_;
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new Machine);
  return RUN_ALL_TESTS();
}
