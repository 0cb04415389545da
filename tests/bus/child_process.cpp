// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/child_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

namespace bus_test {
namespace {

// As sd_listen_fds_with_names() expects it.
void pass_descriptors(const std::map<std::string, int>& passed) {
  if (passed.empty()) return;
  std::vector<loop::UniqueFd> copies;  // out of the way of each other
  std::string names;
  for (const auto& [name, fd] : passed) {
    copies.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 100));
    names += (names.empty() ? "" : ":") + name;
  }
  int next = 3;
  for (const loop::UniqueFd& copy : copies) ::dup2(copy.get(), next++);
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  ::setenv("LISTEN_FDS", std::to_string(passed.size()).c_str(), 1);
  ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
}

[[noreturn]] void run_child(const ChildProcess::Setup& setup, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, setup.death_signal);
  if (::getppid() != parent) ::_exit(125);  // it died before the line above
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(setup.input >= 0 ? setup.input : null, STDIN_FILENO);
  int log = setup.output;
  if (!setup.log.empty()) log = ::open(setup.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log >= 0) {
    ::dup2(setup.output >= 0 ? setup.output : log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const auto& [name, value] : setup.environment) ::setenv(name.c_str(), value.c_str(), 1);
  pass_descriptors(setup.passed);
  if (setup.body) ::_exit(setup.body());
  std::vector<char*> arguments;
  for (const std::string& argument : setup.arguments)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  if (setup.before) setup.before();
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace

ChildProcess::ChildProcess(const Setup& setup) : death_signal_(setup.death_signal) {
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) run_child(setup, parent);
  pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (!pidfd_) throw std::system_error(errno, std::generic_category(), "pidfd_open");
}

ChildProcess::~ChildProcess() {
  if (!running()) return;
  signal(death_signal_);
  if (!wait()) signal(SIGKILL);
  wait();
}

void ChildProcess::signal(int number) {
  if (!status_) ::kill(pid_, number);
}

std::optional<int> ChildProcess::wait(milliseconds patience) {
  const auto deadline = Clock::now() + patience;
  while (!status_) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    pollfd waited{pidfd_.get(), POLLIN, 0};
    const int ready = ::poll(&waited, 1, left.count() > 0 ? static_cast<int>(left.count()) : 0);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return std::nullopt;
    int status = 0;
    ::waitpid(pid_, &status, 0);
    status_ = status;
  }
  return status_;
}

std::optional<int> ChildProcess::terminate(milliseconds patience) {
  signal(SIGTERM);
  const auto status = wait(patience);
  if (!status) {
    signal(SIGKILL);
    wait();
  }
  return status;
}

bool ChildProcess::running() { return !wait(milliseconds(0)); }

CommandResult run(const std::vector<std::string>& arguments, const std::string& input) {
  const loop::UniqueFd in(::memfd_create("input", MFD_CLOEXEC));
  const loop::UniqueFd out(::memfd_create("output", MFD_CLOEXEC));
  if (::pwrite(in.get(), input.data(), input.size(), 0) != static_cast<ssize_t>(input.size())) {
    throw std::system_error(errno, std::generic_category(), "memfd");
  }
  ChildProcess child({.arguments = arguments, .input = in.get(), .output = out.get()});
  const auto status = child.wait(milliseconds(60'000));
  CommandResult result;
  if (status) result.status = WIFEXITED(*status) ? WEXITSTATUS(*status) : 128 + WTERMSIG(*status);
  std::array<char, 4096> buffer{};
  off_t offset = 0;
  for (ssize_t got = 0; (got = ::pread(out.get(), buffer.data(), buffer.size(), offset)) > 0; offset += got) {
    result.output.append(buffer.data(), static_cast<size_t>(got));
  }
  return result;
}

}  // namespace bus_test
