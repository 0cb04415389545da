// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the output is for a person: colours, a pager, a table that fits.
#pragma once

#include <string>
#include <vector>

#include "service/cli/verb.hpp"

namespace loopctl {

// Whether a person reads the standard output; also true when a pager shows it.
bool output_is_terminal();

enum class Colour { none, header, good, bad, faint };

// The text in that colour; as it is, where there are no colours ($SYSTEMD_COLORS and
// $NO_COLOR decide, else the terminal does).
std::string coloured(const std::string& text, Colour colour);

// "●" where the terminal can show it, else "*".
const char* dot();

// While it lives the standard output goes through a pager, as systemctl's does: on a
// terminal, unless --no-pager was given. The destructor waits until the person has
// read it.
class Pager {
 public:
  explicit Pager(const Invocation& invocation);
  Pager(const Pager&) = delete;
  Pager& operator=(const Pager&) = delete;
  ~Pager();

 private:
  pid_t pid_ = -1;
};

class Table {
 public:
  struct Column {
    std::string title;
    bool right = false;  // numbers
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void print(bool legend) const;

 private:
  void print_row(const std::vector<std::string>& row, const std::vector<size_t>& widths, Colour colour) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace loopctl
