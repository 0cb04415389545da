// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/file_devices.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/examination.hpp"
#include "dbus/object_registry.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/support/image.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loopd {
namespace {

using loop::testing::kib;

class DevicesOfAFile : public testing::Test {
 protected:
  static constexpr unsigned number = 3;

  DevicesOfAFile() {
    kernel_.foreign_attach(number, file_.get());
    auto examination = loop::identify(kernel_, number);
    if (!examination || !loop::describe(kernel_, *examination)) return;
    Device device;
    device.snapshot = examination->snapshot;
    registry_.publish(std::move(device));
  }

  std::vector<std::string> found() const {
    return FileDevices(registry_, kernel_, loop::identify_file(file_.get())).paths();
  }

  loop::testing::TemporaryDirectory directory_;
  loop::UniqueFd file_ = directory_.make_file("image", 64 * kib);
  loop::testing::FakeLoopKernel kernel_;
  ObjectRegistry registry_;
};

TEST_F(DevicesOfAFile, AreThoseThatArePublished) {
  EXPECT_EQ(found(), std::vector<std::string>{"/org/example/Loop1/loop3"});
}

// Of an attach to the same number, say, which has not published the other one yet.
TEST_F(DevicesOfAFile, AreNotThoseThatAreDetachedAndStillPublished) {
  kernel_.foreign_detach(number);
  EXPECT_EQ(found(), std::vector<std::string>());
  kernel_.foreign_attach(number);
  EXPECT_EQ(found(), std::vector<std::string>());
}

}  // namespace
}  // namespace loopd
