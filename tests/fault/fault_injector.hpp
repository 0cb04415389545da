// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/unique_fd.hpp"
#include "tests/bus/child_process.hpp"

struct seccomp_notif;

namespace fault_test {

// Stands between a process and the kernel: system calls that matter come here first
// (seccomp's user notification), and are let pass, made to fail, or held.
//
// A step is what a call does to whom: "LOOP_CONFIGURE", "open loop-control", "write
// record". Which calls have one is in fault_injector.cpp.
class FaultInjector {
 public:
  // `state_directory`: whose files are the records.
  explicit FaultInjector(std::string state_directory);
  ~FaultInjector();

  // To be called in the child, before it becomes the program. Another child takes
  // the place of the one before.
  void enter() const;

  // The steps from now on, in order.
  void start_recording();
  std::vector<std::string> recorded();

  // Lets this step fail the next time but so many, and lets all pass after that.
  void fail(const std::string& step, unsigned passes, int error);
  bool was_hit();

  // Holds the next calls of this step, `most` of them.
  void hold(const std::string& step, unsigned most = 1);
  unsigned held();
  bool wait_held(unsigned many);

  // Lets everything pass, also what is held.
  void release();

 private:
  struct Armed {
    std::string step;
    unsigned passes = 0;
    int error = 0;
    bool hit = false;
  };

  void serve();
  void take_listener();
  void take_call();
  void answer(uint64_t id, int error);
  std::string step_of(const seccomp_notif& call) const;
  std::string step_of_open(const seccomp_notif& call) const;
  std::string step_of_file(const seccomp_notif& call, const std::string& verb) const;

  std::string state_directory_;
  loop::UniqueFd ours_;  // the socket that a child's listener comes over
  loop::UniqueFd theirs_;
  loop::UniqueFd end_;
  loop::UniqueFd listener_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool recording_ = false;
  std::vector<std::string> recorded_;
  Armed armed_;
  std::string held_step_;
  unsigned most_held_ = 0;
  std::vector<uint64_t> held_;
  std::thread thread_;
};

}  // namespace fault_test
