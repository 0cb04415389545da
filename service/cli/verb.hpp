// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What a verb of loopctl is, and how it ends.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace loopctl {

// Exit codes, as loopctl(1) has them. `open` and `attach -- COMMAND` end with the
// code of their command.
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;
inline constexpr int exit_not_found = 3;     // no such device, file or attachment
inline constexpr int exit_busy = 4;          // somebody uses it, or what it maps
inline constexpr int exit_denied = 5;        // not authorized
inline constexpr int exit_no_service = 6;    // loopd cannot be reached
inline constexpr int exit_cannot_run = 126;  // the command is there, and cannot be run
inline constexpr int exit_no_command = 127;  // the command is not there

struct Option {
  const char* name;      // the long one, without dashes
  char letter;           // the short one; 0: none
  const char* argument;  // as the help shows it; null: takes none, "[=…]": may be left out
  const char* help;
};

template <size_t First, size_t Second>
constexpr std::array<Option, First + Second> concat(const std::array<Option, First>& first,
                                                    const std::array<Option, Second>& second) {
  std::array<Option, First + Second> all{};
  std::copy(first.begin(), first.end(), all.begin());
  std::copy(second.begin(), second.end(), all.begin() + First);
  return all;
}

// The command line, taken apart. An option may be given several times; the last
// one counts.
class Invocation {
 public:
  void add_option(std::string_view name, std::optional<std::string> value);
  void add_argument(std::string argument) { arguments_.push_back(std::move(argument)); }
  void set_command(std::vector<std::string> command) { command_ = std::move(command); }
  void drop_first_argument() { arguments_.erase(arguments_.begin()); }

  bool has(std::string_view option) const;
  // The argument of an option; nothing where it or its argument was not given.
  std::optional<std::string> value(std::string_view option) const;
  // "--option" and "--option=yes" are true; nothing: not given. Throws UsageError.
  std::optional<bool> truth(std::string_view option) const;

  // What stands before "--", and behind it.
  const std::vector<std::string>& arguments() const { return arguments_; }
  const std::vector<std::string>& command() const { return command_; }
  // Both, for verbs that run no command: "--" lets a name begin with a dash.
  std::vector<std::string> names() const;

  const std::vector<std::string>& given_options() const { return given_; }

 private:
  std::vector<std::string> given_;
  std::vector<std::optional<std::string>> values_;
  std::vector<std::string> arguments_;
  std::vector<std::string> command_;
};

// One verb: its part of the help, and what it does. `run` returns the exit code;
// throws UsageError, Failure or sdbus::Error. One that has sub-verbs has no `run`.
struct Verb {
  const char* name;
  const char* arguments;
  const char* summary;
  std::span<const Option> options;
  int (*run)(const Invocation& invocation);
  std::span<const Verb* const> subverbs = {};
};

// The command line makes no sense.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// "What: why; what to do."
struct Failure : std::runtime_error {
  Failure(const std::string& what, const std::string& why, int code = exit_failed)
      : runtime_error(what + ": " + why), exit_code(code) {}
  Failure(const std::string& what, int error_number);
  int exit_code;
};

}  // namespace loopctl
