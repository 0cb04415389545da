// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "tests/bus/bus_client.hpp"
#include "tests/soak/findings.hpp"

namespace soak {

// Listens to every signal of the service from the start, and keeps account of each
// life of a device, by its disk sequence: from InterfacesAdded to InterfacesRemoved.
class SignalLedger {
 public:
  SignalLedger(const std::string& address, Findings& findings);
  ~SignalLedger();

  // A life that a reply told a client of, and its partitions.
  void promised(uint64_t disk_sequence, std::set<unsigned> partitions);

  // Takes in what the service has sent so far, and holds it against what was
  // promised. Once, at the end.
  void settle();

  unsigned lives() const { return static_cast<unsigned>(lives_.size()); }
  unsigned signals() const { return signals_; }

 private:
  struct Counts {
    unsigned interfaces_added = 0;
    unsigned interfaces_removed = 0;
    unsigned added = 0;  // PartitionAdded, PartitionRemoved
    unsigned removed = 0;
    bool once() const {
      return interfaces_added == 1 && interfaces_removed == 1 && added == 1 && removed == 1;
    }
  };
  struct Life {
    bool is_of_a_client = false;  // else of somebody beside the service, who promises nothing
    unsigned added = 0;
    unsigned removed = 0;
    std::map<unsigned, Counts> partitions;
  };

  void listen();
  void take(const bus_test::Signal& signal);
  void take_added(const bus_test::Signal& signal);
  void take_removed(const bus_test::Signal& signal);
  void take_partition(const bus_test::Signal& signal);
  Counts* partition_of(const std::string& object);
  void check_promised(uint64_t disk_sequence, const std::set<unsigned>& partitions);

  Findings& findings_;
  bus_test::BusClient client_;
  unsigned signals_ = 0;
  std::map<uint64_t, Life> lives_;
  std::map<unsigned, uint64_t> current_;  // by number of the device
  std::mutex mutex_;                      // of what clients tell
  std::map<uint64_t, std::set<unsigned>> promised_;
  std::atomic<bool> ending_ = false;
  std::thread thread_;
};

}  // namespace soak
