// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/terminal.hpp"

#include <fcntl.h>
#include <langinfo.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "service/cli/text.hpp"

namespace loopctl {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool decide_colours() {
  if (const std::string wish = environment("SYSTEMD_COLORS"); !wish.empty()) {
    return wish != "0" && wish != "no" && wish != "false" && wish != "off";
  }
  return output_is_terminal() && environment("NO_COLOR").empty() && environment("TERM") != "dumb";
}

bool has_colours() {
  static const bool colours = decide_colours();
  return colours;
}

const char* sequence_of(Colour colour) {
  switch (colour) {
    case Colour::none:
      return "";
    case Colour::header:
      return "\x1b[4m";
    case Colour::good:
      return "\x1b[32m";
    case Colour::bad:
      return "\x1b[1;31m";
    case Colour::faint:
      return "\x1b[2m";
  }
  return "";
}

// A pager runs commands that its user types: not as root for somebody who is not.
bool must_be_secure() {
  if (const std::string wish = environment("SYSTEMD_PAGERSECURE"); !wish.empty()) {
    return wish != "0" && wish != "no" && wish != "false" && wish != "off";
  }
  if (std::getenv("SUDO_UID") || std::getenv("PKEXEC_UID") || ::getuid() != ::geteuid()) return true;
  uid_t owner = 0;
  return sd_pid_get_owner_uid(0, &owner) >= 0 && owner != ::geteuid();
}

// The first that is set, also if it is empty: that means none.
const char* wanted_pager() {
  for (const char* name : {"SYSTEMD_PAGER", "PAGER"}) {
    if (const char* pager = std::getenv(name)) return pager;
  }
  return nullptr;
}

[[noreturn]] void run_pager(int input, const char* wanted, bool secure) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  ::dup2(input, STDIN_FILENO);
  const std::string flags = environment("SYSTEMD_LESS");
  ::setenv("LESS", flags.empty() ? "FRSXMK" : flags.c_str(), 1);
  const std::string charset = environment("SYSTEMD_LESSCHARSET");
  if (!charset.empty()) ::setenv("LESSCHARSET", charset.c_str(), 1);
  if (secure) {
    ::setenv("LESSSECURE", "1", 1);
  } else {
    ::unsetenv("LESSSECURE");
    if (wanted) ::execl("/bin/sh", "sh", "-c", wanted, nullptr);
  }
  ::execlp("less", "less", nullptr);
  if (!secure) ::execlp("more", "more", nullptr);
  ::execlp("cat", "cat", nullptr);
  ::_exit(127);
}

}  // namespace

bool output_is_terminal() {
  static const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  return terminal;
}

std::string coloured(const std::string& text, Colour colour) {
  if (!has_colours() || colour == Colour::none) return text;
  return sequence_of(colour) + text + "\x1b[0m";
}

const char* dot() { return std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0 ? "●" : "*"; }

Pager::Pager(const Invocation& invocation) {
  if (invocation.has("no-pager") || !output_is_terminal() || environment("TERM") == "dumb") return;
  const char* wanted = wanted_pager();
  if (wanted && (*wanted == '\0' || std::strcmp(wanted, "cat") == 0)) return;
  has_colours();  // decided by the terminal, not by the pipe
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) < 0) return;
  std::fflush(stdout);
  pid_ = ::fork();
  if (pid_ == 0) run_pager(ends[0], wanted, must_be_secure());
  if (pid_ > 0) ::dup2(ends[1], STDOUT_FILENO);
  ::close(ends[0]);
  ::close(ends[1]);
}

Pager::~Pager() {
  if (pid_ <= 0) return;
  // Whoever quits the pager early has seen enough; Ctrl-C is for the pager.
  ::signal(SIGINT, SIG_IGN);
  std::fflush(stdout);
  const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  ::dup2(null, STDOUT_FILENO);
  ::close(null);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Table::print_row(const std::vector<std::string>& row, const std::vector<size_t>& widths,
                      Colour colour) const {
  std::string line;
  for (size_t i = 0; i < row.size(); ++i) {
    const std::string padding(widths[i] - std::min(widths[i], display_width(row[i])), ' ');
    if (i > 0) line += ' ';
    if (columns_[i].right) line += padding;
    line += row[i];
    if (!columns_[i].right && i + 1 < row.size()) line += padding;
  }
  std::puts(coloured(line, colour).c_str());
}

void Table::print(bool legend) const {
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  std::vector<size_t> widths(columns_.size());
  const auto widen = [&widths](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  };
  if (legend) widen(titles);
  for (const auto& row : rows_) widen(row);
  if (legend) print_row(titles, widths, Colour::header);
  for (const auto& row : rows_) print_row(row, widths, Colour::none);
}

}  // namespace loopctl
