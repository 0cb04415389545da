// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What all tests on real loop devices share. Needs root; skipped otherwise.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/loop_kernel.hpp"
#include "core/loop_manager.hpp"
#include "core/node_directory.hpp"
#include "core/removal.hpp"
#include "tests/support/image.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {

class RealLoopDevices : public ::testing::Test {
 protected:
  void SetUp() override;
  // Unmounts, ends swapping, detaches and deletes whatever the test left,
  // also when it failed.
  void TearDown() override;

  AttachRequest request_for(UniqueFd file);
  AttachRequest request(uint64_t size = 1 * mib);  // for a new file

  // Attaches and commits; a chosen number is waited for. The device goes with the
  // test.
  DeviceSnapshot attach(const AttachRequest& request);
  DeviceSnapshot attach_new(uint64_t size = 1 * mib) { return attach(request(size)); }

  // To be detached in TearDown, too.
  void remember(const DeviceSnapshot& snapshot) {
    devices_.emplace_back(snapshot.number, snapshot.disk_sequence);
  }

  // A number that nobody else chooses, not even tests that run beside these.
  static unsigned private_number();

  // Its code, and what it says in message_; nothing where it succeeds.
  std::optional<Errc> error_of(const std::function<void()>& action);

  UniqueFd open_device(const DeviceSnapshot& snapshot, int flags = 0) const;  // O_RDONLY without flags

  // The status as the kernel tells it, from a descriptor of its own.
  struct Status {
    unsigned flags = 0;
    uint64_t offset = 0;
    uint64_t size_limit = 0;
    uint64_t size = 0;
    std::string name;
    bool operator==(const Status&) const = default;
  };
  Status status_of(const DeviceSnapshot& snapshot) const;

  std::string sysfs(unsigned number, const std::string& name) const;
  bool still_attached(const DeviceSnapshot& snapshot) const;
  static bool node_exists(const std::string& name);  // "loop3p1"
  // Deleted, or somebody else's by now.
  bool node_is_gone(unsigned number) const;

  // Each is undone by TearDown; skips the test where the tool is not installed.
  void make_ext4(const std::string& path) const;
  std::string mount(const std::string& device);
  void unmount(const std::string& mount_point);
  void start_swap(const std::string& device);
  void stop_swap(const std::string& device);

  TemporaryDirectory directory_;
  std::unique_ptr<LoopKernel> kernel_ =
      make_linux_loop_kernel(make_node_directory(Nodes::as_needed));  // as the service does
  AttachmentRecords records_{directory_.file("records")};
  LoopManager manager_{*kernel_, &records_};
  std::string message_;

 private:
  int files_ = 0;
  std::vector<std::pair<unsigned, uint64_t>> devices_;
  std::vector<std::string> mounts_;
  std::vector<std::string> swaps_;
};

// Another process that does one thing until it is told to end. It runs only
// what is async-signal-safe enough for a child of a program with threads.
class ChildProcess {
 public:
  // `work` runs in the child; ready() of the parent returns when it calls its
  // argument. It is killed by the destructor.
  explicit ChildProcess(const std::function<void(const std::function<void()>& report_ready)>& work);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  void end();
  int wait();  // for its own end; the exit code

 private:
  pid_t pid_ = -1;
};

// Looks again every few milliseconds, where the kernel announces nothing.
bool comes_true(const std::function<bool()>& condition,
                std::chrono::milliseconds patience = std::chrono::seconds(5));

}  // namespace loop::testing
