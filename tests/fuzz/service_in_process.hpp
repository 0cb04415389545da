// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The service's own parts, wired as main.cpp wires them, on a simulated kernel and
// without a bus: who talks to it is a peer of the private socket. Nothing of the
// machine is touched, and an execution takes microseconds.
#pragma once

#include <bitset>
#include <functional>
#include <memory>
#include <string>

#include "core/unique_fd.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"

namespace loop::testing {

class ServiceInProcess {
 public:
  ServiceInProcess();
  ~ServiceInProcess();

  // A peer that has said nothing yet.
  UniqueFd connect();

  // One whose authentication is done: only after it does sd-bus take descriptors.
  UniqueFd connect_authenticated();

  // The service has done all that follows from what it was sent, but for what the kernel tells
  // a moment later, as that a timer has elapsed.
  void settle();

  // That, too: the condition has come true.
  void settle_until(const std::function<bool()>& condition);

  // Nobody is connected, nothing is under way, and no node is open.
  void settle_without_peers();

  const FakeLoopKernel& kernel() const { return kernel_; }

 private:
  struct Parts;

  FakeLoopKernel kernel_;
  std::string name_;  // of the socket
  std::unique_ptr<Parts> parts_;
};

// Sends the bytes, with a descriptor if it isn't -1. What does not fit the socket is
// dropped: the service has stopped to read.
void send_bytes(int socket, const std::string& bytes, int descriptor = -1);

// What a peer says before its first message.
extern const std::string authentication;

// Of this process. Higher ones are not seen, as numbers are given from below.
using OpenDescriptors = std::bitset<128>;
OpenDescriptors open_descriptors();

// A fuzzer's one service, made anew when an input has left a device attached: an
// input that finds something finds it on its own, too.
class ServiceForInputs {
 public:
  ServiceInProcess& get();

  // All peers have been closed. No descriptor is left of what they did, but for at most
  // so many that libsystemd has lost: it forgets those of a message whose header is wrong.
  void input_ended(size_t lost_by_libsystemd = 0);

 private:
  void look_at_descriptors(size_t lost_by_libsystemd);
  void end_service();

  std::unique_ptr<ServiceInProcess> service_;
  OpenDescriptors open_before_;
  OpenDescriptors lost_;
  size_t open_with_service_ = 0;
};

}  // namespace loop::testing
