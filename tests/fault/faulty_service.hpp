// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/bus/bus_fixture.hpp"
#include "tests/fault/fault_injector.hpp"

namespace fault_test {

using bus_test::BusClient;
using bus_test::Reply;
using bus_test::ScratchFile;
using bus_test::Value;

// The real loopd behind an injector.
class FaultyService : public bus_test::Bus {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override;
  void TearDown() override;

  static FaultInjector& faults() { return *faults_; }
  static void restart_loopd();
  void begin_anew();

  // For what is only to go: udev may still look at it, on a busy machine for long.
  static Reply remove(BusClient& client, const std::string& object);

  // One of the contract's errors for what the kernel or a limit refuses.
  static bool is_typed(const Reply& reply);

  std::set<std::string> state_files() const;
  std::vector<std::string> descriptors() const;

  // As the fixture's, also when the bus was started anew.
  bool soon(const std::function<bool()>& condition);

  // No device of the file, in the kernel or published.
  bool is_free(const ScratchFile& file);

  // Everything is as before the first test: a device comes and goes, nothing is left.
  void expect_health(const std::string& after);

 private:
  void remember_descriptors(const std::string& after);

  static std::unique_ptr<FaultInjector> faults_;
  std::vector<std::string> descriptors_before_;
};

}  // namespace fault_test
