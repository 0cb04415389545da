// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Open of a device that is to go with its last use: this is the first.
#include <filesystem>
#include <optional>

#include "tests/unit/operations_fixture.hpp"

namespace loopd {
namespace {

class OpeningADeviceWithAutoclear : public OperationsOnAScriptedKernel {
 protected:
  void SetUp() override {
    loop::AttachmentTerms terms;
    terms.autoclear_pending = true;
    start_with(terms);
    kernel_.foreign_open(number);  // the scripted kernel does not see who has a copy of the descriptor
  }

  void open_it() { start(keep(operations_.changing().open(Caller(), target(), "r"))); }

  Task<void> keep(Task<loop::UniqueFd> opening) { opened_ = co_await opening; }

  void expect_armed_once() {
    EXPECT_TRUE(opened_ && *opened_) << "nobody got the device";
    EXPECT_EQ(kernel_.attribute(number, "loop/autoclear"), "1");
    ASSERT_NE(registry_.find(number), nullptr);
    EXPECT_FALSE(registry_.find(number)->terms.autoclear_pending);
  }

  std::optional<loop::UniqueFd> opened_;
};

TEST_F(OpeningADeviceWithAutoclear, ArmsIt) {
  open_it();
  expect_armed_once();
  EXPECT_FALSE(records_.find(target().disk_sequence)->autoclear_pending);
}

// The device is the caller's by then: to answer with an error would lose it.
TEST_F(OpeningADeviceWithAutoclear, ArmsItAndSaysSoWhereTheRecordCannotBeWritten) {
  std::filesystem::remove_all(directory_.file("state"));
  open_it();
  expect_armed_once();
  EXPECT_NE(log_.find("loop3"), std::string::npos) << log_;
}

}  // namespace
}  // namespace loopd
