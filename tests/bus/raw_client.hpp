// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/unique_fd.hpp"
#include "tests/bus/bus_client.hpp"
#include "tests/support/message_bytes.hpp"

namespace bus_test {

// A client without a library, which sends what no library would: messages whose
// handles name descriptors that are not there. What it is sent beside answers is dropped, descriptors too.
class RawClient {
 public:
  explicit RawClient(const std::string& address, uid_t uid = 0);

  // Any call; the header speaks of one descriptor where there is a file. Of a result, only a first string or
  // path is kept. Throws std::runtime_error where the bus hangs up or does not answer.
  Reply call(const loop::testing::CallHeader& header, const std::string& body, int file = -1);

  // Calls METHOD(h, a{sv}) or METHOD(h) with that handle; file -1: with none.
  Reply call_with_handle(const std::string& member, const std::string& signature, uint32_t handle,
                         int file = -1);

  // The parts of call(), for many calls at once. Sending takes in meanwhile what
  // arrives: the other side may not read before it was read from.
  uint32_t next_serial() { return ++serial_; }
  void send(const std::string& bytes, const std::vector<int>& files = {});

  struct Answer {
    uint32_t serial = 0;  // of the call
    Reply reply;
  };
  // Nothing: none arrives in time. Throws where the bus hangs up.
  std::optional<Answer> receive(milliseconds patience = long_enough);

 private:
  void expect_line(const std::string& start);
  std::optional<Answer> take_message();
  bool wait(short events, Clock::time_point deadline);
  void read_available();

  loop::UniqueFd socket_;
  uint32_t serial_ = 0;
  std::string received_;
};

}  // namespace bus_test
