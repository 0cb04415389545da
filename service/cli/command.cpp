// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/command.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "service/cli/failure.hpp"

namespace loopctl {

int become_command(const std::vector<std::string>& command, const Environment& added) {
  for (const auto& [name, value] : added) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  const int error = errno;
  complain(Failure(command[0], error).what());
  return error == ENOENT ? exit_no_command : exit_cannot_run;
}

int run_command(const std::vector<std::string>& command, const Environment& added) {
  // What ends the command also ends what this program does, but not before.
  struct sigaction ignore {};
  struct sigaction interrupt {};
  struct sigaction quit {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGINT, &ignore, &interrupt);
  ::sigaction(SIGQUIT, &ignore, &quit);
  const pid_t child = ::fork();
  if (child < 0) throw Failure(command[0], errno);
  if (child == 0) {
    ::sigaction(SIGINT, &interrupt, nullptr);
    ::sigaction(SIGQUIT, &quit, nullptr);
    ::_exit(become_command(command, added));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void wait_for_end() {
  sigset_t ends;
  ::sigemptyset(&ends);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&ends, signal);
  ::sigprocmask(SIG_BLOCK, &ends, nullptr);
  int got = 0;
  ::sigwait(&ends, &got);
}

}  // namespace loopctl
