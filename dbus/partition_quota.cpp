// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/partition_quota.hpp"

#include <algorithm>
#include <limits>

namespace loopd {

Task<PartitionQuota::Turn> PartitionQuota::turn(uid_t owner) {
  if (owner == 0) co_return Turn();  // root is not limited
  Turn turn = co_await turns_.acquire(owner);
  co_return turn;
}

std::optional<PartitionQuota::Turn> PartitionQuota::turn_at_once(uid_t owner) {
  if (owner == 0) return Turn();
  return turns_.acquire_at_once(owner);
}

size_t PartitionQuota::room_for(unsigned number, uid_t owner) const {
  if (owner == 0) return std::numeric_limits<size_t>::max();
  size_t others = 0;
  for (const auto& [other, device] : registry_.devices()) {
    if (other != number && device.terms.owner == owner) others += device.partitions.size();
  }
  return limit_ - std::min(limit_, others);
}

}  // namespace loopd
