// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/unique_fd.hpp"
#include "tests/bus/bus_client.hpp"
#include "tests/support/message_bytes.hpp"

namespace bus_test {

// A client without a library, which sends what no library would: messages whose
// handles name descriptors that are not there.
class RawClient {
 public:
  explicit RawClient(const std::string& address, uid_t uid = 0);

  // Any call; the header speaks of one descriptor where there is a file. Of a result, only a first string or
  // path is kept. Throws std::runtime_error where the bus hangs up or does not answer.
  Reply call(const loop::testing::CallHeader& header, const std::string& body, int file = -1);

  // Calls METHOD(h, a{sv}) or METHOD(h) with that handle; file -1: with none.
  Reply call_with_handle(const std::string& member, const std::string& signature, uint32_t handle,
                         int file = -1);

 private:
  void send(const std::string& bytes, int file = -1);
  void expect_line(const std::string& start);
  std::string receive(size_t length);

  loop::UniqueFd socket_;
  uint32_t serial_ = 0;
};

}  // namespace bus_test
