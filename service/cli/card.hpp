// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "service/cli/terminal.hpp"

namespace loopctl {

// Facts about one thing, below each other.
class Card {
 public:
  explicit Card(std::string title, Colour dot_colour = Colour::none)
      : title_(std::move(title)), dot_colour_(dot_colour) {}

  // Facts of the same name stand below each other under one name.
  void add(const std::string& name, const std::string& text, Colour colour = Colour::none);
  // A blank line separates it from a card before.
  void print() const;

 private:
  struct Fact {
    std::string name;
    std::string text;
    Colour colour;
  };
  std::string title_;
  Colour dot_colour_;
  std::vector<Fact> facts_;
};

// "64M (67108864 bytes)" for people, else "67108864".
std::string size_text(uint64_t bytes, bool human);

}  // namespace loopctl
