// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The real loopctl on the stack's bus.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {

struct LoopctlResult {
  int status = -1;  // exit status; 128 + signal
  std::string output;
  std::string error;
};
std::ostream& operator<<(std::ostream& out, const LoopctlResult& result);

// One run, which others may happen beside.
class LoopctlRun {
 public:
  struct Setup {
    std::vector<std::string> arguments;
    std::map<std::string, std::string> environment = {};
    uid_t uid = 0;
    bool terminal = false;  // a terminal of its own is its input and output
  };
  LoopctlRun(const std::string& bus_address, const Setup& setup);

  // All that it has written so far; with a terminal, what that shows.
  std::string output();
  std::string error() const;

  // Waits until the output has the text; false: it has not at the deadline, or it
  // has ended without.
  bool wait_for_output(const std::string& text);
  void type(const std::string& text);  // on its terminal
  void signal(int number) { process_->signal(number); }
  LoopctlResult wait();

 private:
  // True: something came, or the end.
  bool read_output(milliseconds patience);

  loop::UniqueFd output_;  // what it writes comes out here; the other side of its terminal
  loop::UniqueFd error_;
  std::string shown_;
  bool ended_ = false;
  std::unique_ptr<ChildProcess> process_;
};

class Loopctl : public Bus {
 protected:
  LoopctlRun start(const LoopctlRun::Setup& setup) const { return {stack().address(), setup}; }
  LoopctlResult loopctl(const std::vector<std::string>& arguments, uid_t uid = 0) const {
    return start({.arguments = arguments, .uid = uid}).wait();
  }
  LoopctlResult on_terminal(const std::vector<std::string>& arguments,
                            const std::map<std::string, std::string>& environment = {}) const {
    return start({.arguments = arguments, .environment = environment, .terminal = true}).wait();
  }
  // Attaches with loopctl; the node.
  std::string attach_file(const std::vector<std::string>& arguments);
};

std::string loopctl_program();

// The value that Python evaluates the expression to, `data` being the JSON.
std::string json_query(const std::string& json, const std::string& expression);

// Ended with that code, wrote nothing but one line to the standard error output, and
// that line has all the texts.
testing::AssertionResult fails_in_one_line(const LoopctlResult& result, int status,
                                           const std::vector<std::string>& texts);

}  // namespace bus_test
