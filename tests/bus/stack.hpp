// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The service as it is in a system, on parts of its own: a system bus, the real
// polkitd with our policy, systemd-udevd where none runs, and the loopd just built.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/unique_fd.hpp"
#include "tests/bus/bus_client.hpp"
#include "tests/bus/child_process.hpp"
#include "tests/bus/scratch.hpp"
#include "tests/bus/service_sockets.hpp"

namespace bus_test {

// Users that every Debian has. Each is allowed what the rules in stack.cpp say.
inline constexpr uid_t ordinary_user = 5;  // games: no rule
inline constexpr uid_t allowed_user = 8;   // mail: may attach files named …allowed…
inline constexpr uid_t another_user = 9;   // news: as mail

// The program's systemd-udevd, where the machine runs none.
class Udev {
 public:
  Udev();
  ~Udev();

 private:
  std::unique_ptr<ChildProcess> process_;
};

class Stack {
 public:
  Stack();
  ~Stack();

  const std::string& address() const { return address_; }

  // Of the private socket, for root.
  std::string private_address() const { return "unix:path=" + private_path(); }
  std::string private_path() const { return directory_ + "/private"; }

  // Another bus at the same address; polkit is started anew on it.
  void restart_bus();
  pid_t polkit_pid();

  void start_polkit();
  void stop_polkit();
  void start_loopd();
  // Its wait status; nothing if it had to be killed.
  std::optional<int> stop_loopd(int signal = SIGTERM);
  ChildProcess& loopd() { return *loopd_; }
  std::string loopd_log() const;
  std::string state_directory() const { return directory_ + "/state"; }

 private:
  void write_files();
  void start_bus();

  std::string directory_;
  std::string address_;
  loop::UniqueFd private_socket_;
  std::unique_ptr<ChildProcess> bus_;
  std::unique_ptr<BusClient> observer_;
  std::unique_ptr<ChildProcess> polkit_;
  std::unique_ptr<ChildProcess> loopd_;
};

std::string replaced(std::string in, const std::string& what, const std::string& with);

// A dbus-daemon that listens, by DIRECTORY/bus.conf.
std::unique_ptr<ChildProcess> start_bus_daemon(const std::string& directory,
                                               const std::map<std::string, std::string>& environment = {});

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
