// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tests/soak/findings.hpp"
#include "tests/soak/gate.hpp"

namespace soak {

class SignalLedger;

// What the service has promised by a reply.
struct Promise {
  unsigned number = 0;
  uint64_t disk_sequence = 0;
  uid_t owner = 0;
  uint64_t dev = 0;  // of the backing file
  uint64_t inode = 0;
  bool partition_scan = false;
  std::string lease;

  bool operator==(const Promise&) const = default;
};

class Promises {
 public:
  void add(const Promise& promise) {
    const std::lock_guard lock(mutex_);
    by_sequence_[promise.disk_sequence] = promise;
  }
  void forget(uint64_t disk_sequence) {
    const std::lock_guard lock(mutex_);
    by_sequence_.erase(disk_sequence);
  }
  std::map<uint64_t, Promise> all() const {
    const std::lock_guard lock(mutex_);
    return by_sequence_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<uint64_t, Promise> by_sequence_;
};

// What was done, for the figures.
struct Tally {
  std::atomic<unsigned> cycles = 0;
  std::atomic<unsigned> attached = 0;
  std::atomic<unsigned> partitions = 0;
  std::atomic<unsigned> used = 0;
  std::atomic<uint64_t> bytes_compared = 0;
  std::atomic<unsigned> refused = 0;  // removals, while somebody was probing
  std::atomic<unsigned> foreign = 0;  // devices of losetup, partx, mount
  std::atomic<unsigned> foreign_lost = 0;
  // Under kills
  std::atomic<unsigned> lost_calls = 0;  // answered by nobody
  std::atomic<unsigned> lost_attaches = 0;
  std::atomic<unsigned> half_made_gone = 0;
  std::atomic<unsigned> half_made_owned = 0;
  std::atomic<unsigned> half_made_foreign = 0;  // visible, and root's
  std::atomic<unsigned> lost_removals = 0;
};

// What the threads of one run share.
struct World {
  std::string address;
  uint64_t seed = 0;
  Findings& findings;
  Tally& tally;
  Promises& promises;
  Gate& gate;
  SignalLedger* ledger = nullptr;  // null: signals are not counted
  bool service_may_die = false;    // then a call may be answered by nobody

  // Numbers of devices that only one life of this run has.
  std::atomic<unsigned> next_unique = 600'000;
};

}  // namespace soak
