// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/bus/raw_client.hpp"
#include "tests/soak/bus_fuzz/call_maker.hpp"
#include "tests/soak/bus_fuzz/fuzz_report.hpp"
#include "tests/soak/bus_fuzz/interface.hpp"
#include "tests/soak/bus_fuzz/territory.hpp"
#include "tests/soak/bus_fuzz/wild_files.hpp"
#include "tests/soak/chance.hpp"

namespace soak {

// Errors of the contract, and those that buses and libraries answer with where it says nothing.
const std::vector<std::string>& error_names();

// A user of the service who calls it at random, many calls at once over many
// connections, which end now and then in the midst of it.
class FuzzUser {
 public:
  struct Setting {
    std::vector<std::string> addresses;  // one for each connection
    std::set<std::string> peers;         // of those, the private sockets
    uint64_t calls = 0;
    uint64_t seed = 0;
    uint64_t whose = 0;
    uid_t uid = 0;
    bool may_nothing = false;  // succeeds with what everybody may alone
  };

  FuzzUser(const Setting& setting, const Territory& territory, const Interface& interface,
           FuzzReport& report);

  void run();

 private:
  struct Connection {
    std::string address;
    std::unique_ptr<bus_test::RawClient> client;
    std::map<uint32_t, FuzzCall> waiting;  // without their bytes
    std::set<uint32_t> unasked;            // serials of what wants no answer, and may get an error
  };

  void call(Connection& connection);
  void drop(Connection& connection);
  // False: no answer came.
  bool take_answer(Connection& connection);
  void judge(const FuzzCall& call, const bus_test::Reply& reply);
  void find(const std::string& what);

  const Setting& setting_;
  const Interface& interface_;
  FuzzReport& report_;
  Chance chance_;
  WildFiles files_;
  CallMaker maker_;
  std::vector<Connection> connections_;
};

}  // namespace soak
