// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/crowd.hpp"

#include <exception>
#include <string>

#include "tests/soak/client.hpp"

namespace soak {
namespace {

// What comes after is only the same again.
constexpr unsigned enough_findings = 50;

}  // namespace

Crowd::Crowd(World& world, unsigned clients, unsigned cycles) : world_(world), left_(cycles) {
  for (unsigned index = 0; index < clients; ++index) threads_.emplace_back([this, index] { live(index); });
}

Crowd::~Crowd() {
  stop();
  wait();
}

void Crowd::wait() {
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

bool Crowd::take_one() { return --left_ >= 0 && world_.findings.count() < enough_findings; }

void Crowd::live(unsigned index) {
  try {
    Client client(world_, index);
    while (take_one()) client.cycle();
  } catch (const std::exception& error) {
    world_.findings.add("client " + std::to_string(index) + ": " + error.what());
  }
  world_.gate.leave();
}

}  // namespace soak
