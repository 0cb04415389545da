// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/polkit_agent.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

namespace loopctl {
namespace {

constexpr int start_patience = 10'000;  // milliseconds

[[noreturn]] void run_agent(int notify) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  ::fcntl(notify, F_SETFD, 0);
  // The command's output is not the place for the agent's words: it has the terminal.
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null, STDOUT_FILENO);
  const std::string descriptor = std::to_string(notify);
  ::execlp("pkttyagent", "pkttyagent", "--notify-fd", descriptor.c_str(), "--fallback", nullptr);
  ::_exit(127);
}

}  // namespace

PolkitAgent::PolkitAgent() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) < 0) return;
  pid_ = ::fork();
  if (pid_ == 0) run_agent(ends[1]);
  ::close(ends[1]);
  // The agent closes its end when it is registered; so does its death.
  pollfd waited{ends[0], 0, 0};
  while (pid_ > 0 && ::poll(&waited, 1, start_patience) < 0 && errno == EINTR) {
  }
  ::close(ends[0]);
}

PolkitAgent::~PolkitAgent() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  ::kill(pid_, SIGCONT);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace loopctl
