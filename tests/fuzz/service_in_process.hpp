// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The service's own parts, wired as main.cpp wires them, on a simulated kernel and
// without a bus: who talks to it is a peer of the private socket. Nothing of the
// machine is touched, and an execution takes microseconds.
#pragma once

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

  // The service has done all that follows from what it was sent.
  void settle();

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

// A fuzzer's one service, made anew when an input has left a device attached: an
// input that finds something finds it on its own, too.
class ServiceForInputs {
 public:
  ServiceInProcess& get();
  void input_ended();  // all peers have been closed

 private:
  std::unique_ptr<ServiceInProcess> service_;
};

}  // namespace loop::testing
