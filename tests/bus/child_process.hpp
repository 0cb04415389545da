// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/unique_fd.hpp"

namespace bus_test {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// What nothing in a healthy run takes.
inline constexpr milliseconds long_enough{20'000};

// A child that does not outlive the test program, whatever ends that.
class ChildProcess {
 public:
  struct Setup {
    std::vector<std::string> arguments;              // program first; searched in PATH
    std::map<std::string, std::string> environment;  // added to ours
    std::function<int()> body;                       // run in the fork instead of a program
    std::function<void()> before;                    // run in the fork, last before the program
    std::string log;                                 // file for its output; empty: ours
    int input = -1;                                  // descriptor for its standard input
    int output = -1;                                 // for its standard output; and error, if there is no log
    std::map<std::string, int> passed;               // as a service manager passes: by name
    int death_signal = SIGKILL;                      // what it gets when we die
  };

  explicit ChildProcess(const Setup& setup);
  ~ChildProcess();  // the death signal, if it still runs

  pid_t pid() const { return pid_; }
  void signal(int number);

  // Its wait status, or nothing if it still runs at the deadline.
  std::optional<int> wait(milliseconds patience = long_enough);

  // Asks it to end, and insists after the deadline.
  std::optional<int> terminate(milliseconds patience = long_enough);
  bool running();

 private:
  int death_signal_;
  pid_t pid_ = -1;
  loop::UniqueFd pidfd_;
  std::optional<int> status_;
};

struct CommandResult {
  int status = -1;     // exit status; 128 + signal
  std::string output;  // standard output and error
};

// Runs a program to its end.
CommandResult run(const std::vector<std::string>& arguments, const std::string& input = {});

}  // namespace bus_test
