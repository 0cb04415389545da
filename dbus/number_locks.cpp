// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/number_locks.hpp"

#include <utility>

namespace loopd {

void NumberLocks::Lock::release() {
  if (NumberLocks* locks = std::exchange(locks_, nullptr)) locks->pass_on(number_);
}

Task<NumberLocks::Lock> NumberLocks::acquire(unsigned number) {
  const auto [held, free] = held_.try_emplace(number);
  if (!free) {
    OneShot<bool> turn;
    const auto alive = std::make_shared<char>();
    held->second.push_back({turn.sender(), alive});
    co_await turn;
  }
  co_return Lock(*this, number);
}

void NumberLocks::pass_on(unsigned number) {
  const auto held = held_.find(number);
  while (!held->second.empty()) {
    const Waiter next = held->second.front();
    held->second.pop_front();
    if (next.alive.expired()) continue;
    // Not from within the destructor of the one who had it.
    scheduler_.post([wake = next.wake] { wake.deliver(true); });
    return;
  }
  held_.erase(held);
}

}  // namespace loopd
