// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/soak/bus_fuzz/interface.hpp"
#include "tests/soak/bus_fuzz/values.hpp"
#include "tests/soak/chance.hpp"
#include "tests/support/message_bytes.hpp"

namespace soak {

struct FuzzCall {
  std::string bytes;
  std::vector<int> files;
  std::string member;
  int method = -1;          // index into those of the interface; -1: none of them, or not as it is declared
  bool is_answered = true;  // it is a call that wants an answer
  bool is_broken = false;   // no message, or one that a library would not take: the connection may end by it
};

// Makes up calls, one after the other.
class CallMaker {
 public:
  CallMaker(Chance& chance, const Territory& territory, const Interface& interface, WildFiles& files,
            Values::Setting setting);

  // `to_peer`: over the private socket, where no bus looks at the bytes first.
  FuzzCall make(uint32_t serial, bool to_peer);

 private:
  struct Draft {
    loop::testing::CallHeader header;
    loop::testing::MessageWriter body;
    int method = -1;
  };

  Draft draft();
  Draft declared_call();
  Draft call_of_others_signature();
  Draft call_of_nothing();
  Draft property_call();
  void write_new_value(loop::testing::MessageWriter& body, const std::string& type);
  int method_of(ObjectKind kind, const loop::testing::CallHeader& header) const;
  Draft other_message();
  int pick_method();
  std::string object_for(ObjectKind kind);
  void break_bytes(std::string& bytes, size_t body_size);

  Chance& chance_;
  const Territory& territory_;
  const Interface& interface_;
  Values values_;
  std::vector<int> attaching_;  // methods that make devices, so that there are some
};

}  // namespace soak
