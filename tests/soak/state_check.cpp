// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/state_check.hpp"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "tests/bus/scratch.hpp"
#include "tests/soak/service_process.hpp"

namespace soak {
namespace {

using bus_test::Value;

// Of the clients, by disk sequence.
std::map<uint64_t, unsigned> attached_in_kernel() {
  std::map<uint64_t, unsigned> found;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block")) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("loop")) continue;
    const auto number = static_cast<unsigned>(std::stoul(name.substr(4)));
    const auto sequence = bus_test::sysfs(number, "diskseq");
    const auto file = bus_test::sysfs(number, "loop/backing_file");
    if (sequence && file && is_of_a_client(*file)) found[std::stoull(*sequence)] = number;
  }
  return found;
}

// What the service shows, in the words of a promise. Whether it keeps the partitions
// is as its property says.
std::map<uint64_t, Promise> published(bus_test::BusClient& root, std::vector<std::string>& complaints) {
  std::map<uint64_t, Promise> found;
  const bus_test::Reply reply = root.managed_objects();
  if (!reply.ok()) {
    complaints.push_back("the service does not answer: " + reply.error + ": " + reply.message);
    return found;
  }
  for (const Value& object : reply.values.at(0).items) {
    const Value* device = object.items.at(1).find(bus_test::device_interface);
    if (!device || !is_of_a_client(device->at("BackingFile").text)) continue;
    const uint64_t sequence = device->at("DiskSequence").number;
    found[sequence] = {.number = static_cast<unsigned>(device->at("Number").number),
                       .disk_sequence = sequence,
                       .owner = static_cast<uid_t>(device->at("OwnerUID").number),
                       .dev = device->at("BackingDev").number,
                       .inode = device->at("BackingInode").number,
                       .partition_scan = device->at("PartitionScan").truth(),
                       .lease = device->at("Lease").text};
  }
  return found;
}

// What the records say; one that says nothing is 0 of all.
std::map<uint64_t, Promise> recorded(const std::string& directory, std::vector<std::string>& complaints) {
  std::map<uint64_t, Promise> found;
  for (const auto& [name, values] : state_files(directory)) {
    if (!std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      complaints.push_back("an intent or unfinished file is left: " + name);
      continue;
    }
    const auto value = [&values = values](const char* key) {
      const auto at = values.find(key);
      return at == values.end() ? std::string() : at->second;
    };
    const auto number = [&value](const char* key) { return std::strtoull(value(key).c_str(), nullptr, 10); };
    const std::string sequence =
        value("LOOPD_DISK_SEQUENCE");  // the name alone has it where it was an intent
    if (!sequence.empty() && sequence != name)
      complaints.push_back("a record of another attachment: " + name);
    if (value("LOOPD_DETACHING") != "0") complaints.push_back("a removal was not taken back: " + name);
    found[std::stoull(name)] = {.number = static_cast<unsigned>(number("LOOPD_NUMBER")),
                                .disk_sequence = std::stoull(name),
                                .owner = static_cast<uid_t>(number("LOOPD_OWNER_UID")),
                                .dev = number("LOOPD_BACKING_DEV"),
                                .inode = number("LOOPD_BACKING_INODE"),
                                .partition_scan = value("LOOPD_KEEPS_PARTITIONS") == "1",
                                .lease = value("LOOPD_LEASE")};
  }
  return found;
}

std::string text_of(const Promise& promise) {
  std::ostringstream text;
  text << "loop" << promise.number << " of user " << promise.owner << ", inode " << promise.dev << ":"
       << promise.inode << (promise.partition_scan ? " with partitions" : "") << " " << promise.lease;
  return text.str();
}

void compare(const std::map<uint64_t, Promise>& promised, const std::map<uint64_t, Promise>& found,
             const std::string& who, std::vector<std::string>& complaints) {
  for (const auto& [sequence, promise] : promised) {
    const auto same = found.find(sequence);
    if (same == found.end()) {
      complaints.push_back(who + " not: " + text_of(promise) + ", disk sequence " + std::to_string(sequence));
    } else if (same->second != promise) {
      complaints.push_back(who + " " + text_of(same->second) + " instead of " + text_of(promise));
    }
  }
  for (const auto& [sequence, what] : found) {
    if (promised.contains(sequence)) continue;
    complaints.push_back(who + " what was not promised: " + text_of(what) + ", disk sequence " +
                         std::to_string(sequence));
  }
}

}  // namespace

bool is_of_a_client(const std::string& file) {
  return file.starts_with(bus_test::scratch_directory() + "/allowed-");
}

std::vector<std::string> disagreements(bus_test::BusClient& root, const Promises& promises,
                                       const std::string& state_directory) {
  std::vector<std::string> complaints;
  const std::map<uint64_t, Promise> promised = promises.all();
  compare(promised, published(root, complaints), "the service shows", complaints);
  compare(promised, recorded(state_directory, complaints), "the records say", complaints);
  const std::map<uint64_t, unsigned> attached = attached_in_kernel();
  for (const auto& [sequence, promise] : promised) {
    const auto same = attached.find(sequence);
    if (same == attached.end() || same->second != promise.number) {
      complaints.push_back("the kernel has not: " + text_of(promise));
    }
  }
  if (attached.size() > promised.size()) {
    complaints.push_back("the kernel has " + std::to_string(attached.size()) + " devices, and " +
                         std::to_string(promised.size()) + " were promised");
  }
  return complaints;
}

}  // namespace soak
