// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/loopctl.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

namespace bus_test {
namespace {

loop::UniqueFd memory_file(const char* name) { return loop::UniqueFd(::memfd_create(name, MFD_CLOEXEC)); }

std::string content_of(const loop::UniqueFd& file) {
  std::string content;
  std::array<char, 4096> buffer{};
  for (ssize_t got = 0;
       (got = ::pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(content.size()))) > 0;) {
    content.append(buffer.data(), static_cast<size_t>(got));
  }
  return content;
}

loop::UniqueFd open_terminal() {
  loop::UniqueFd terminal(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!terminal || ::grantpt(terminal.get()) < 0 || ::unlockpt(terminal.get()) < 0) {
    throw std::system_error(errno, std::generic_category(), "a terminal");
  }
  winsize size{};
  size.ws_row = 24;
  size.ws_col = 200;
  ::ioctl(terminal.get(), TIOCSWINSZ, &size);
  return terminal;
}

bool take_terminal(const std::string& name) {
  if (::setsid() < 0) return false;
  const int fd = ::open(name.c_str(), O_RDWR);  // becomes the controlling one
  return fd >= 0 && ::dup2(fd, 0) == 0 && ::dup2(fd, 1) == 1 && ::dup2(fd, 2) == 2;
}

// The program was opened as root: another user may not get to where it was built.
int become_loopctl(int program, const LoopctlRun::Setup& setup) {
  if (setup.uid != 0 && (::setresgid(setup.uid, setup.uid, setup.uid) < 0 ||
                         ::setresuid(setup.uid, setup.uid, setup.uid) < 0)) {
    return 126;
  }
  std::vector<char*> arguments{const_cast<char*>("loopctl")};
  for (const std::string& argument : setup.arguments)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::fexecve(program, arguments.data(), environ);
  return 127;
}

void set_environment(const std::string& bus_address, const std::map<std::string, std::string>& more) {
  for (const char* name :
       {"NO_COLOR", "SYSTEMD_COLORS", "PAGER", "SYSTEMD_PAGER", "SYSTEMD_LESS", "SUDO_UID"}) {
    ::unsetenv(name);
  }
  ::setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address.c_str(), 1);
  ::setenv("TERM", "xterm", 1);
  ::setenv("LC_ALL", "C.UTF-8", 1);
  for (const auto& [name, value] : more) ::setenv(name.c_str(), value.c_str(), 1);
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const LoopctlResult& result) {
  return out << "exit status " << result.status << "\noutput:\n"
             << result.output << "\nerror:\n"
             << result.error;
}

std::string loopctl_program() {
  const char* override = std::getenv("LOOPCTL_BINARY");
  return override ? override : LOOPCTL_BINARY;
}

LoopctlRun::LoopctlRun(const std::string& bus_address, const Setup& setup) : error_(memory_file("error")) {
  const std::string path = loopctl_program();
  const loop::UniqueFd program(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!program) throw std::system_error(errno, std::generic_category(), path);
  std::string terminal_name;
  loop::UniqueFd writing;
  if (setup.terminal) {
    output_ = open_terminal();
    terminal_name = ::ptsname(output_.get());
  } else {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) < 0) throw std::system_error(errno, std::generic_category(), "pipe");
    output_.reset(ends[0]);
    writing.reset(ends[1]);
  }
  process_ = std::make_unique<ChildProcess>(
      ChildProcess::Setup{.body =
                              [&] {
                                set_environment(bus_address, setup.environment);
                                if (setup.terminal && !take_terminal(terminal_name)) return 126;
                                return become_loopctl(program.get(), setup);
                              },
                          .log = "/proc/self/fd/" + std::to_string(error_.get()),
                          .output = writing.get(),
                          .death_signal = SIGTERM});
}

bool LoopctlRun::read_output(milliseconds patience) {
  pollfd waited{output_.get(), POLLIN, 0};
  if (ended_ || ::poll(&waited, 1, static_cast<int>(patience.count())) <= 0) return ended_;
  std::array<char, 4096> buffer{};
  const ssize_t got = ::read(output_.get(), buffer.data(), buffer.size());
  if (got > 0) {
    shown_.append(buffer.data(), static_cast<size_t>(got));
  } else {
    ended_ = true;  // nobody can write any more; a terminal says so by EIO
  }
  return true;
}

std::string LoopctlRun::output() {
  while (!ended_ && read_output(milliseconds(0))) {
  }
  return shown_;
}

std::string LoopctlRun::error() const { return content_of(error_); }

bool LoopctlRun::wait_for_output(const std::string& text) {
  const auto deadline = Clock::now() + long_enough;
  while (shown_.find(text) == std::string::npos) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    if (ended_ || left.count() <= 0 || !read_output(left)) return false;
  }
  return true;
}

void LoopctlRun::type(const std::string& text) {
  if (::write(output_.get(), text.data(), text.size()) < 0) {
    throw std::system_error(errno, std::generic_category(), "typing");
  }
}

LoopctlResult LoopctlRun::wait() {
  const auto deadline = Clock::now() + long_enough;
  while (!ended_ && Clock::now() < deadline) read_output(long_enough);
  LoopctlResult result;
  if (const auto status = process_->wait()) {
    result.status = WIFEXITED(*status) ? WEXITSTATUS(*status) : 128 + WTERMSIG(*status);
  }
  result.output = shown_;
  result.error = error();
  return result;
}

std::string Loopctl::attach_file(const std::vector<std::string>& arguments) {
  std::vector<std::string> all{"attach"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const LoopctlResult result = loopctl(all);
  EXPECT_EQ(result.status, 0) << result;
  std::string node = result.output.substr(0, result.output.find('\n'));
  EXPECT_TRUE(node.starts_with("/dev/loop")) << result;
  if (node.starts_with("/dev/loop"))
    remove_at_end(object_of(static_cast<unsigned>(std::stoul(node.substr(9)))));
  return node;
}

std::string json_query(const std::string& json, const std::string& expression) {
  const std::string script =
      "import json, sys\n"
      "data = json.load(open(0, encoding='utf-8'))\n"
      "print(" +
      expression + ", end='')\n";
  const CommandResult result = run({"python3", "-c", script}, json);
  EXPECT_EQ(result.status, 0) << result.output << "\nof: " << json;
  return result.output;
}

testing::AssertionResult fails_in_one_line(const LoopctlResult& result, int status,
                                           const std::vector<std::string>& texts) {
  const bool one_line = std::count(result.error.begin(), result.error.end(), '\n') == 1;
  if (result.status != status || !one_line || !result.error.starts_with("loopctl: ")) {
    return testing::AssertionFailure() << "expected status " << status << " and one line, got " << result;
  }
  for (const std::string& text : texts) {
    if (result.error.find(text) == std::string::npos) {
      return testing::AssertionFailure() << "\"" << text << "\" is not in: " << result.error;
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace bus_test
