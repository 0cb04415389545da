// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Values by signature: random ones, and those at the borders. A message of them is
// a good one for the bus.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tests/soak/bus_fuzz/interface.hpp"
#include "tests/soak/bus_fuzz/territory.hpp"
#include "tests/soak/bus_fuzz/wild_files.hpp"
#include "tests/soak/chance.hpp"
#include "tests/support/message_bytes.hpp"

namespace soak {

// What a method takes, as far as is known here: other keys and texts are tried all the same, and any
// for a method that is not known.
enum class OptionGroup { attach, remove, resize, any };
enum class TextKind { path, node, mode, any };
struct Expectation {
  OptionGroup options = OptionGroup::any;
  TextKind texts = TextKind::any;
};
Expectation expectation_of(const std::string& method);

// A signature without what follows its first type.
std::string first_type(const std::string& signature);

class Values {
 public:
  struct Setting {
    bool always_numbered = false;  // the user's attaches name a number of the territory
  };

  Values(Chance& chance, const Territory& territory, const Interface& interface, WildFiles& files,
         Setting setting);

  // What the handles in the values so far mean; the next value begins a new message.
  std::vector<int> take_descriptors();

  void write(loop::testing::MessageWriter& body, const std::string& signature, Expectation expected);
  // Handles that name no descriptor of the message, for one value.
  void let_handles_be_wild(bool wild) { wild_handles_ = wild; }

  std::string text();
  std::string signature();  // of one type

 private:
  using Writer = loop::testing::MessageWriter;

  void write_one(Writer& body, const std::string& type, Expectation expected, unsigned depth);
  void write_integer(Writer& body, char type);
  void write_array(Writer& body, const std::string& element, unsigned depth);
  void write_variant(Writer& body, unsigned depth);
  void write_nested(Writer& body, unsigned levels);
  void write_handle(Writer& body);
  void write_options(Writer& body, OptionGroup group);
  void write_sensible_options(Writer& body, OptionGroup group);
  void write_wild_options(Writer& body);
  void write_entry(Writer& body, const std::string& key, const std::string& type);
  void write_known(Writer& body, const std::string& key, char type);
  void write_attach_number(Writer& body);
  std::string key();
  std::string text_of(TextKind kind);
  std::string object_path();
  uint64_t border();

  Chance& chance_;
  const Territory& territory_;
  const Interface& interface_;
  WildFiles& files_;
  Setting setting_;
  bool wild_handles_ = false;
  std::vector<int> descriptors_;
};

}  // namespace soak
