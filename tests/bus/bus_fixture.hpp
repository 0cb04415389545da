// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What each test of the bus suite begins with, and leaves behind.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/bus/stack.hpp"

namespace bus_test {

// A suite starts one stack for all its tests. A test leaves nothing attached, and
// the service alive.
class Bus : public testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override;
  void TearDown() override;

  static Stack& stack() { return *stack_; }
  std::unique_ptr<BusClient> connect(uid_t uid = 0) const;

  // Root's connection, made for the test, which records signals.
  BusClient& root() { return *root_; }

  // A number that only this test uses: others work with devices meanwhile.
  static unsigned own_number();

  // Attaches as root; fails the test and gives an empty string if it does not work.
  // What is still attached at the end of the test is removed then, by the service.
  std::string attach(int file, const Options& wishes = {});
  std::string attach(const ScratchFile& file, const Options& wishes = {}) {
    return attach(file.fd(), wishes);
  }

  // The same as somebody else.
  std::string attach_as(BusClient& user, const ScratchFile& file, const Options& wishes = {});

  // The condition holds before the deadline. For what is not told on the bus: looks
  // now and then.
  bool soon(const std::function<bool()>& condition);

  // The device is detached, and its node and object are gone, soon.
  bool goes(const std::string& object);

  // Every event of devices that has happened so far has become signals.
  void let_events_arrive();

  // Has the device removed at the end of the test, if it is still there.
  void remove_at_end(const std::string& object);

  // Properties of an object, as dictionary.
  Value properties_of(const std::string& object, const std::string& interface = device_interface);

 private:
  std::string attach_for(BusClient& client, int file, const Options& wishes);
  void remove_attached();

  static std::unique_ptr<Stack> stack_;
  std::unique_ptr<BusClient> root_;
  std::vector<std::pair<std::string, uint64_t>> attached_;  // object and disk sequence
};

// The second partition of a device, with a file system, mounted. Fails the test where
// that does not work.
class MountedPartition {
 public:
  MountedPartition(const std::string& object, const std::string& name);
  const MountPoint& point() const { return point_; }

 private:
  MountPoint point_;
};

// Is an error of this name whose message has the culprit.
testing::AssertionResult fails_with(const Reply& reply, const std::string& error,
                                    const std::string& culprit = {});
testing::AssertionResult succeeds(const Reply& reply);

}  // namespace bus_test
