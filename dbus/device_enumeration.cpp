// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/device_enumeration.hpp"

#include <algorithm>
#include <exception>
#include <map>
#include <utility>

#include "core/record_reconciliation.hpp"
#include "dbus/device_follower.hpp"
#include "dbus/work_lanes.hpp"

namespace loopd {
namespace {

constexpr WorkLane file_lane{0, true};

// There is no more to be seen of it.
bool is_whole(const std::optional<loop::DeviceSight>& sight) {
  return sight && sight->described && !sight->stale;
}

}  // namespace

Task<void> DeviceEnumeration::start() {
  const auto list_partitioned = [&kernel = follower_.loops_.kernel()] { return kernel.partitioned(); };
  std::set<unsigned> partitioned = co_await on_worker(follower_.scheduler_, kernel_lane, list_partitioned);
  partitioned_ = std::make_shared<const std::set<unsigned>>(std::move(partitioned));
  if (follower_.loops_.records()) {
    const auto work = [&loops = follower_.loops_, &helpers = follower_.helpers_] {
      loop::undo_unfinished_attaches(loops, helpers);
      return loops.records()->sequences();
    };
    std::vector<uint64_t> recorded = co_await on_worker(follower_.scheduler_, file_lane, work);
    co_await look_in_batches(std::move(recorded), &DeviceEnumeration::look_at_recorded,
                             &DeviceEnumeration::look_at_record);
  }
  std::set<unsigned> seen;
  for (const auto& [number, device] : follower_.registry_.devices()) seen.insert(number);
  co_await look_at_attached_but(std::move(seen));
  partitioned_.reset();
}

// One list at the start instead of one for each device. Partitions that came later are published when their
// event was seen, or will be.
bool DeviceEnumeration::may_have_partitions(unsigned number) const {
  const Device* known = follower_.registry_.find(number);
  return !partitioned_ || partitioned_->contains(number) || (known != nullptr && !known->partitions.empty());
}

Task<void> DeviceEnumeration::add_symlinks() {
  follower_.asks_for_symlinks_ = true;
  if (follower_.has_udev_) {
    // What was attached later is published with its links, and told of.
    std::vector<Target> devices;
    for (const auto& [number, device] : follower_.registry_.devices()) {
      devices.push_back({number, device.snapshot.disk_sequence});
    }
    co_await look_in_batches(std::move(devices), &DeviceEnumeration::add_symlinks_to,
                             &DeviceEnumeration::look_at_device);
  }
  follower_.registry_.know_symlinks();
}

Task<void> DeviceEnumeration::look_at_all() {
  partitioned_.reset();  // there may be others by now, whose events were lost
  return look_at_attached_but({});
}

Task<void> DeviceEnumeration::look_at_attached_but(std::set<unsigned> seen) {
  const auto list = [&kernel = follower_.loops_.kernel(), seen] {
    std::set<unsigned> attached;
    std::set<unsigned> free;
    for (const unsigned number : kernel.numbers()) {
      if (!seen.contains(number)) (kernel.has_attribute(number, "loop") ? attached : free).insert(number);
    }
    return std::pair(attached, free);
  };
  auto [numbers, free] = co_await on_worker(follower_.scheduler_, kernel_lane, list);
  // An operation at work on one says what became of it when it ends.
  std::erase_if(free, [this](unsigned number) { return follower_.loops_.claims().claimed(number); });
  follower_.free_numbers_.replace(std::move(free));
  for (const auto& [number, record] : follower_.unseen_) numbers.insert(number);
  for (const auto& [number, device] : follower_.registry_.devices()) {
    if (!seen.contains(number)) numbers.insert(number);
  }
  co_await look_in_batches(std::vector(numbers.begin(), numbers.end()), &DeviceEnumeration::look_at_numbers,
                           &DeviceEnumeration::look_at_number);
}

// Those that are looked at by themselves are so side by side: one whose server does not answer must not
// hold up the others.
template <typename Key>
Task<void> DeviceEnumeration::look_in_batches(
    std::vector<Key> keys, Task<std::vector<Key>> (DeviceEnumeration::*look_at_many)(std::vector<Key>),
    Task<void> (DeviceEnumeration::*look_at_one)(Key)) {
  constexpr size_t size = 32;
  constexpr size_t side_by_side_at_most = 8;
  size_t next = 0;
  std::vector<Key> others;
  const auto take_turns = [&]() -> Task<void> {
    while (next < keys.size()) {
      const size_t first = std::exchange(next, std::min(next + size, keys.size()));
      const std::vector<Key> batch(keys.data() + first, keys.data() + next);
      const std::vector<Key> left = co_await (this->*look_at_many)(batch);
      others.insert(others.end(), left.begin(), left.end());
    }
  };
  std::vector<Task<void>> turns;
  for (size_t i = 0; i < side_by_side_at_most; ++i) turns.push_back(take_turns());
  co_await side_by_side(follower_.tasks_, std::move(turns));
  std::vector<Task<void>> looks;
  for (const Key key : others) looks.push_back((this->*look_at_one)(key));
  co_await side_by_side(follower_.tasks_, std::move(looks));
}

// Nothing of any, where one does not answer or there is nothing to look with.
template <typename Seen, typename Work>
Task<std::vector<std::optional<Seen>>> DeviceEnumeration::see_many(WorkLane lane, Work work, size_t count) {
  std::vector<std::optional<Seen>> sights(count);
  try {
    sights = co_await on_worker(follower_.scheduler_, lane, work, Clock::now() + describe_patience);
  } catch (const std::exception&) {
    // Whoever is to blame is found when each is looked at by itself.
  }
  co_return sights;
}

Task<std::vector<uint64_t>> DeviceEnumeration::look_at_recorded(std::vector<uint64_t> sequences) {
  const auto work = [&reader = follower_.reader_, &records = *follower_.loops_.records(), sequences,
                     partitioned = partitioned_] {
    Sights sights;
    for (const uint64_t sequence : sequences) {
      auto& sight = sights.emplace_back();
      const auto record = records.find(sequence);
      // To open one that is just detaching, and close it, would detach it.
      if (!record || record->detaching) continue;
      sight = reader.see({.number = record->number,
                          .known_sequence = sequence,
                          .known_terms = *record,
                          .may_have_partitions = !partitioned || partitioned->contains(record->number)});
    }
    return sights;
  };
  auto sights = co_await see_many<loop::DeviceSight>(look_lane, work, sequences.size());
  std::vector<uint64_t> others;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (!is_whole(sights[i]) || sights[i]->disk_sequence() != sequences[i]) {
      others.push_back(sequences[i]);
    } else if (follower_.registry_.find(sights[i]->examination.snapshot.number) == nullptr) {
      follower_.publish(std::move(*sights[i]));  // else an event came meanwhile, and was followed
    }
  }
  co_return others;
}

Task<void> DeviceEnumeration::look_at_record(uint64_t disk_sequence) {
  const auto work = [&loops = follower_.loops_, &helpers = follower_.helpers_, disk_sequence] {
    return loop::reconcile_record(loops, helpers, disk_sequence);
  };
  auto record = co_await on_worker(follower_.scheduler_, file_lane, work);
  if (!record) co_return;
  const unsigned number = record->number;
  follower_.unseen_.insert_or_assign(number, std::move(*record));
  co_await follower_.look(number);
}

// What an event tells of a device's links is newer than what is read here, or read at the same time.
Task<std::vector<Target>> DeviceEnumeration::add_symlinks_to(std::vector<Target> devices) {
  const auto told = [this](const Target& device) { return follower_.links_.contains(device.number); };
  std::erase_if(devices, told);
  const auto work = [symlinks_of = follower_.symlinks_of_, devices] {
    std::vector<std::optional<Symlinks>> found;
    for (const Target& device : devices) found.emplace_back(symlinks_of(device.number));
    return found;
  };
  auto found = co_await see_many<Symlinks>(kernel_lane, work, devices.size());
  std::vector<Target> others;
  for (size_t i = 0; i < devices.size(); ++i) {
    if (!found[i]) {
      others.push_back(devices[i]);
    } else if (!told(devices[i])) {
      follower_.registry_.add_symlinks(devices[i], std::move(*found[i]));
    }
  }
  co_return others;
}

Task<void> DeviceEnumeration::look_at_device(Target device) { return follower_.look(device.number); }

Task<void> DeviceEnumeration::look_at_number(unsigned number) { return follower_.look(number); }

Task<std::vector<unsigned>> DeviceEnumeration::look_at_numbers(std::vector<unsigned> numbers) {
  // In ascending order, as every batch takes them, and who takes a single one waits for no other.
  std::map<unsigned, NumberLocks::Lock> locks;
  for (const unsigned number : numbers) {
    auto lock = co_await follower_.looks_.acquire(number);
    locks.emplace(number, std::move(lock));
  }
  std::vector<unsigned> others;
  std::vector<loop::DeviceQuestion> questions;
  std::map<unsigned, uint64_t> claims;
  for (const unsigned number : numbers) {
    if (follower_.loops_.claims().claimed(number) || follower_.rewritten_.contains(number)) {
      others.push_back(number);
      continue;
    }
    claims.emplace(number, follower_.loops_.claims().count(number));
    questions.push_back(follower_.question_of(number));
    questions.back().may_have_partitions = may_have_partitions(number);
  }
  const auto work = [&reader = follower_.reader_, questions] {
    Sights sights;
    for (const loop::DeviceQuestion& question : questions) sights.push_back(reader.see(question));
    return sights;
  };
  auto sights = co_await see_many<loop::DeviceSight>(look_lane, work, questions.size());
  for (size_t i = 0; i < questions.size(); ++i) {
    const unsigned number = questions[i].number;
    if (follower_.overtaken(number, claims.at(number))) continue;
    if (is_whole(sights[i])) {
      follower_.publish(std::move(*sights[i]));
    } else {
      others.push_back(number);
    }
  }
  co_return others;
}

}  // namespace loopd
