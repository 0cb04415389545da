// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/signal_ledger.hpp"

#include <algorithm>
#include <sstream>

#include "tests/soak/state_check.hpp"

namespace soak {

using bus_test::Signal;
using bus_test::Value;

namespace {

// "/org/example/Loop1/loop3/p2" → {3, 2}; of a device {3, 0}.
std::pair<unsigned, unsigned> numbers_of(const std::string& object) {
  const auto partition = object.find("/p");
  if (partition == std::string::npos) return {bus_test::number_of(object), 0};
  return {bus_test::number_of(object.substr(0, partition)),
          static_cast<unsigned>(std::stoul(object.substr(partition + 2)))};
}

std::string text_of(const Signal& signal) {
  std::ostringstream text;
  text << signal;
  return text.str().substr(0, 400);
}

}  // namespace

SignalLedger::SignalLedger(const std::string& address, Findings& findings)
    : findings_(findings), client_(address) {
  client_.listen();
  thread_ = std::thread([this] { listen(); });
}

SignalLedger::~SignalLedger() {
  ending_ = true;
  if (thread_.joinable()) thread_.join();
}

void SignalLedger::promised(uint64_t disk_sequence, std::set<unsigned> partitions) {
  const std::lock_guard lock(mutex_);
  if (!promised_.emplace(disk_sequence, std::move(partitions)).second) {
    findings_.add("two attachments have the disk sequence " + std::to_string(disk_sequence));
  }
}

void SignalLedger::listen() {
  while (!ending_) {
    client_.wait_for([this] { return !client_.signals().empty(); }, bus_test::milliseconds(100));
    for (const Signal& signal : client_.signals()) take(signal);
    client_.forget_signals();
  }
}

void SignalLedger::take(const Signal& signal) {
  ++signals_;
  if (signal.member == "InterfacesAdded") take_added(signal);
  if (signal.member == "InterfacesRemoved") take_removed(signal);
  if (signal.member == "PartitionAdded" || signal.member == "PartitionRemoved") take_partition(signal);
}

void SignalLedger::take_added(const Signal& signal) {
  const std::string& object = signal.arguments.at(0).text;
  if (signal.arguments.at(1).find(bus_test::partition_interface)) {
    if (Counts* partition = partition_of(object)) ++partition->interfaces_added;
    return;
  }
  const Value* device = signal.arguments.at(1).find(bus_test::device_interface);
  if (!device) return;  // of the manager
  const uint64_t sequence = device->at("DiskSequence").number;
  if (!current_.emplace(numbers_of(object).first, sequence).second) {
    findings_.add("announced while the one before is still there: " + text_of(signal));
  }
  Life& life = lives_[sequence];
  life.is_of_a_client = is_of_a_client(device->at("BackingFile").text);
  if (++life.added > 1) findings_.add("announced again: " + text_of(signal));
}

void SignalLedger::take_removed(const Signal& signal) {
  const std::string& object = signal.arguments.at(0).text;
  const auto interfaces = signal.arguments.at(1).texts();
  const auto removes = [&](const char* name) {
    return std::find(interfaces.begin(), interfaces.end(), name) != interfaces.end();
  };
  if (removes(bus_test::partition_interface)) {
    if (Counts* partition = partition_of(object)) ++partition->interfaces_removed;
  }
  if (!removes(bus_test::device_interface)) return;
  const auto current = current_.find(numbers_of(object).first);
  if (current == current_.end()) {
    findings_.add("withdrawn without having been announced: " + text_of(signal));
    return;
  }
  ++lives_[current->second].removed;
  current_.erase(current);
}

void SignalLedger::take_partition(const Signal& signal) {
  const auto [number, partition] = numbers_of(signal.arguments.at(0).text);
  Counts* counts = partition_of(signal.arguments.at(0).text);
  if (!counts) return;
  ++(signal.member == "PartitionAdded" ? counts->added : counts->removed);
  const std::string node = bus_test::node_of(number) + "p" + std::to_string(partition);
  if (signal.arguments.at(1).text != node || signal.arguments.at(2).number != partition) {
    findings_.add("names another partition: " + text_of(signal));
  }
}

SignalLedger::Counts* SignalLedger::partition_of(const std::string& object) {
  const auto [number, partition] = numbers_of(object);
  const auto current = current_.find(number);
  if (current != current_.end()) return &lives_[current->second].partitions[partition];
  findings_.add("a signal of a partition of a device that is not there: " + object);
  return nullptr;
}

void SignalLedger::settle() {
  ending_ = true;
  thread_.join();
  // Its answer comes behind everything that the service has sent before.
  client_.manager("ListDevices");
  client_.process();
  for (const Signal& signal : client_.signals()) take(signal);
  client_.forget_signals();
  for (const auto& [sequence, partitions] : promised_) check_promised(sequence, partitions);
  for (const auto& [sequence, life] : lives_) {
    if (life.is_of_a_client && !promised_.contains(sequence)) {
      findings_.add("signals of an attachment that nobody made, of disk sequence " +
                    std::to_string(sequence));
    }
    if (life.added != 1 || life.removed > 1) {
      findings_.add("added " + std::to_string(life.added) + " times and removed " +
                    std::to_string(life.removed) + " times: disk sequence " + std::to_string(sequence));
    }
  }
}

void SignalLedger::check_promised(uint64_t disk_sequence, const std::set<unsigned>& partitions) {
  const std::string name = "disk sequence " + std::to_string(disk_sequence);
  const auto found = lives_.find(disk_sequence);
  if (found == lives_.end()) return findings_.add("no signal of " + name);
  if (found->second.removed != 1) findings_.add("no InterfacesRemoved of " + name);
  for (const auto& [number, counts] : found->second.partitions) {
    if (!partitions.contains(number)) {
      findings_.add("signals of partition " + std::to_string(number) + ", which is none, of " + name);
    }
  }
  for (const unsigned number : partitions) {
    const auto partition = found->second.partitions.find(number);
    if (partition != found->second.partitions.end() && partition->second.once()) continue;
    std::ostringstream text;
    text << "partition " << number << " of " << name;
    if (partition != found->second.partitions.end()) {
      const Counts& counts = partition->second;
      text << ": InterfacesAdded " << counts.interfaces_added << ", PartitionAdded " << counts.added
           << ", PartitionRemoved " << counts.removed << ", InterfacesRemoved " << counts.interfaces_removed;
    }
    findings_.add(text.str());
  }
}

}  // namespace soak
