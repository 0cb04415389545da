// SPDX-License-Identifier: LGPL-2.1-or-later
//
// loopctl: the service's calls for people and shell scripts.
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "service/cli/command_line.hpp"
#include "service/cli/failure.hpp"
#include "service/version.hpp"

namespace loopctl {
namespace {

int run_verb(const CommandLine& line) {
  try {
    return line.verb->run(line.invocation);
  } catch (const UsageError& error) {
    complain(line.name + ": " + error.what());
    return exit_usage;
  } catch (const Failure& failure) {
    complain(failure.what());
    return failure.exit_code;
  } catch (const sdbus::Error& error) {
    const Failure failure = failure_of(line.name, error);
    complain(failure.what());
    return failure.exit_code;
  } catch (const std::exception& error) {
    complain(line.name + ": " + error.what());
    return exit_failed;
  }
}

int run(int argc, char** argv) {
  CommandLine line;
  try {
    line = parse_command_line(argc, argv);
  } catch (const UsageError& error) {
    complain(error.what());
    return exit_usage;
  }
  if (line.version) {
    std::puts("loopctl " LOOPD_VERSION);
  } else if (line.help && line.verb == nullptr) {
    print_help();
  } else if (line.help) {
    print_help(*line.verb, line.name);
  } else {
    return run_verb(line);
  }
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace loopctl

int main(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "");
  int code = loopctl::run(argc, argv);
  if (std::fflush(stdout) != 0 && code == EXIT_SUCCESS) {
    std::perror("loopctl: cannot write");
    code = loopctl::exit_failed;
  }
  return code;
}
