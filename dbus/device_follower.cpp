// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/device_follower.hpp"

#include <algorithm>
#include <exception>
#include <utility>

#include "core/device_settings.hpp"
#include "core/error.hpp"
#include "core/holders.hpp"
#include "core/node_deletion.hpp"
#include "core/partitioning.hpp"
#include "dbus/work_lanes.hpp"

namespace loopd {
namespace {

using namespace std::chrono_literals;

constexpr const WorkLane& lane_of(const loop::AttachmentTerms& terms) {
  return terms.served_locally ? look_lane : server_lane;
}

// Looks at once, by number: a crowd of devices takes no more of the workers' queue, and
// some that do not answer hold up few others.
constexpr unsigned most_looks_at_once = 64;

// udev has finished a partition long before that, or never will; a client's own
// patience is 25 s.
constexpr auto udev_patience = 10s;

// Changes of a file or a node within this are told together.
constexpr auto change_delay = 50ms;

// Of changes that do not cease.
constexpr auto longest_change_delay = 1s;

// When who did not answer is asked again; each time twice as late.
constexpr auto first_silence = 10s;
constexpr auto longest_silence = 600s;

constexpr int look_attempts = 4;
constexpr auto clean_up_patience = 5s;

Device device_of(loop::Examination examination) {
  Device device;
  device.snapshot = std::move(examination.snapshot);
  for (loop::KnownPartition& partition : examination.partitions) {
    const unsigned number = partition.entry.extent.number;
    device.partitions.emplace(number, Partition{std::move(partition.entry), partition.dev});
  }
  return device;
}

// A worker's part of a look.
struct Look {
  const loop::DeviceReader& reader;
  loop::DeviceQuestion question;

  std::optional<loop::DeviceSight> operator()() const { return reader.see(question); }
};

// What was known of the attachment stays known when it can't be asked again.
void keep_description(const Device& known, loop::Examination& now) {
  if (!known.snapshot.identified) return;
  now.snapshot.identified = true;
  now.snapshot.backing = known.snapshot.backing;
  now.snapshot.backing_size = known.snapshot.backing_size;
  now.snapshot.reference = known.snapshot.reference;
  std::vector<loop::TableEntry> entries;
  for (const auto& [number, partition] : known.partitions) entries.push_back(partition.entry);
  loop::apply_entries(entries, now.partitions);
}

}  // namespace

DeviceFollower::DeviceFollower(Scheduler& scheduler, TaskGroup& tasks, loop::LoopManager& loops,
                               loop::FileHelpers& helpers, ObjectRegistry& registry)
    : scheduler_(scheduler),
      tasks_(tasks),
      loops_(loops),
      helpers_(helpers),
      registry_(registry),
      quota_(scheduler, registry),
      reader_(loops, helpers, backing_files_),
      enumeration_(*this),
      looks_(scheduler),
      turns_(scheduler) {
  loops_.use_free_numbers(free_numbers_);
  nodes_source_ = scheduler_.on_readable(nodes_.fd(), [this] { nodes_written(); });
}

void DeviceFollower::use_udev(Symlinks symlinks) {
  symlinks_of_ = std::move(symlinks);
  has_udev_ = static_cast<bool>(symlinks_of_);
}

void DeviceFollower::handle(const loop::DeviceEvent& event) {
  if (!event.partition) {
    if (event.action == loop::DeviceEvent::Action::remove) {
      links_.erase(event.number);
    } else {
      links_.insert_or_assign(event.number, Links{event.disk_sequence, event.symlinks});
    }
  }
  // udev says so when a writer of the whole disk has closed it, or somebody wants it
  // to be looked at again.
  const bool written = event.action == loop::DeviceEvent::Action::change && !event.resized;
  if (!event.partition && written) rewritten_.insert(event.number);
  if (!loops_.claims().claimed(event.number)) {
    const Device* known = registry_.find(event.number);
    const bool same = known != nullptr && known->snapshot.disk_sequence == event.disk_sequence;
    const bool added = event.entry && event.action == loop::DeviceEvent::Action::add;
    if (same && added) return partition_came(event);
    start_look(event.number);
    return;
  }
  // An operation is at work on it and will publish the outcome.
  Meanwhile& meanwhile = meanwhile_[event.number];
  if (meanwhile.disk_sequence != event.disk_sequence) {
    meanwhile.disk_sequence = event.disk_sequence;
    meanwhile.ready.clear();
  }
  if (event.partition && event.action != loop::DeviceEvent::Action::remove) {
    meanwhile.ready.insert(*event.partition);
    if (meanwhile.changed) meanwhile.changed();
  }
}

// A look at a device is as long as its list of partitions, and a table's come all at once:
// each is published by itself, as udev has read it, and when no more come a look confirms
// them all.
void DeviceFollower::partition_came(const loop::DeviceEvent& event) {
  const unsigned number = event.number;
  note(number);
  const auto now = Clock::now();
  Arrivals& arrivals =
      arrivals_.try_emplace(number, Arrivals{{}, now + longest_change_delay, nullptr}).first->second;
  arrivals.partitions.insert_or_assign(*event.partition, *event.entry);
  arrivals.look = scheduler_.at(std::min(now + change_delay, arrivals.look_by), [this, number] {
    arrivals_.erase(number);
    start_look(number);
  });
  if (asked_to_add_.insert(number).second) tasks_.start(add_partitions(number, event.disk_sequence));
}

Task<void> DeviceFollower::add_partitions(unsigned number, uint64_t disk_sequence) {
  const auto lock = co_await looks_.acquire(number);
  asked_to_add_.erase(number);
  const auto arrived = arrivals_.find(number);
  const Device* before = registry_.find(number);
  if (arrived == arrivals_.end() || before == nullptr) co_return;  // a look sees to it
  const uint64_t claims = loops_.claims().count(number);
  if (overtaken(number, claims) || before->snapshot.disk_sequence != disk_sequence) co_return;
  const auto work = [&kernel = loops_.kernel(), number, disk_sequence,
                     entries = std::exchange(arrived->second.partitions, {})] {
    std::vector<loop::KnownPartition> found;
    for (const auto& [partition, entry] : entries) {
      auto known = loop::known_partition(kernel, number, partition);
      if (!known) continue;
      known->entry.type = entry.type;
      known->entry.uuid = entry.uuid;
      known->entry.name = entry.name;
      found.push_back(std::move(*known));
    }
    if (!loop::is_attached(kernel, number, disk_sequence)) found.clear();
    return found;
  };
  std::vector<loop::KnownPartition> found;
  try {
    found = co_await on_worker(scheduler_, kernel_lane, work);
  } catch (const std::exception&) {
    co_return;  // nothing to look with; the look to come tries again
  }
  const Device* known = registry_.find(number);
  if (overtaken(number, claims) || known == nullptr || known->snapshot.disk_sequence != disk_sequence)
    co_return;
  Device device = *known;
  for (loop::KnownPartition& partition : found) {
    const unsigned place = partition.entry.extent.number;
    device.partitions.try_emplace(place, Partition{std::move(partition.entry), partition.dev});
  }
  publish(std::move(device));
}

void DeviceFollower::backing_files_changed() {
  changed_.merge(backing_files_.take_changed());
  start_looks_soon();
}

void DeviceFollower::nodes_written() {
  for (const unsigned number : nodes_.take_written()) {
    rewritten_.insert(number);
    changed_.insert(number);
  }
  start_looks_soon();
}

void DeviceFollower::start_looks_soon() {
  if (changed_timer_ || changed_.empty()) return;
  changed_timer_ = scheduler_.at(Clock::now() + change_delay, [this] {
    changed_timer_.reset();
    for (const unsigned number : std::exchange(changed_, {})) start_look(number);
  });
}

void DeviceFollower::watch_node(const Device& device) {
  if (device.terms.keeps_partitions) {
    nodes_.watch(device.snapshot.number);
  } else {
    nodes_.forget(device.snapshot.number);
  }
}

void DeviceFollower::settle(unsigned number) {
  if (loops_.claims().claimed(number)) return;
  if (meanwhile_.erase(number) == 0) return;
  // After the answer that the caller is about to send: a worker that wakes up may take its processor.
  scheduler_.post([this, number] { start_look(number); });
}

void DeviceFollower::settle() {
  std::vector<unsigned> numbers;
  for (const auto& [number, what] : meanwhile_) numbers.push_back(number);
  for (const unsigned number : numbers) settle(number);
}

// Events come in bursts; those that come before the look has begun share it.
void DeviceFollower::start_look(unsigned number) {
  note(number);
  if (!asked_.insert(number).second) return;
  tasks_.start(look_if_asked(number));
}

Task<void> DeviceFollower::look_if_asked(unsigned number) {
  const auto lock = co_await looks_.acquire(number);
  asked_.erase(number);
  co_await look_locked(number);
}

Task<void> DeviceFollower::catch_up() {
  if (drain_early_events_) drain_early_events_();
  const std::map<unsigned, uint64_t> noted = noted_;
  for (const auto& [number, note] : noted) {
    // One that is claimed is this service's own work, and published by it.
    if (noted_.contains(number) && !loops_.claims().claimed(number)) co_await look(number);
  }
}

Task<void> DeviceFollower::look(unsigned number) {
  const auto lock = co_await looks_.acquire(number);
  co_await look_locked(number);
}

Task<void> DeviceFollower::look_locked(unsigned number) {
  const auto before = noted_.find(number);
  const uint64_t note = before == noted_.end() ? 0 : before->second;
  bool done = false;
  try {
    for (int attempt = 0; attempt < look_attempts && !done; ++attempt) done = co_await look_once(number);
  } catch (const std::exception&) {
    // No descriptor to look with, or no room among the workers: what is known stays.
  }
  if (!done) {
    changed_.insert(number);  // it is looked at again, a little later
    start_looks_soon();
    co_return;
  }
  // What is there while it is claimed was not seen: somebody else's, perhaps, who was faster.
  if (loops_.claims().claimed(number)) co_return;
  // Changed again meanwhile, it is to be looked at again.
  if (const auto after = noted_.find(number); after != noted_.end() && after->second == note)
    noted_.erase(after);
}

// Where the table of this device may have been written, and the service keeps its partitions.
const Device* DeviceFollower::take_rewritten(unsigned number) {
  if (rewritten_.erase(number) == 0) return nullptr;
  const Device* known = registry_.find(number);
  if (known == nullptr || !known->terms.keeps_partitions) return nullptr;
  return is_silent(known->snapshot.disk_sequence) ? nullptr : known;
}

// The partitions that the service keeps are those of the table, also after
// somebody wrote another one: the kernel has no part in them. The owner's turn is over when
// they are published.
Task<PartitionQuota::Turn> DeviceFollower::sync_if_rewritten(unsigned number) {
  const Device* known = take_rewritten(number);
  if (known == nullptr) co_return PartitionQuota::Turn();
  auto turn = quota_.turn_at_once(known->terms.owner);
  if (!turn) {  // after the one who has it
    rewritten_.insert(number);
    changed_.insert(number);
    start_looks_soon();
    co_return PartitionQuota::Turn();
  }
  const uint64_t sequence = known->snapshot.disk_sequence;
  const auto work = [&helpers = helpers_, terms = known->terms, number, sequence,
                     room = quota_.room_for(number, known->terms.owner)] {
    const auto way = helpers.way(terms.served_locally, terms.owner);
    // A table that can't be found may be cut or half-written; who wants the
    // partitions gone says so by RescanPartitions.
    loop::sync_partitions(way->kernel(), number, sequence, loop::WithoutTable::change_nothing, room);
  };
  try {
    co_await on_worker(scheduler_, lane_of(known->terms), work, Clock::now() + describe_patience);
  } catch (const WorkTimedOut&) {
    fall_silent(number, sequence);
  } catch (const loop::Error&) {
    // Gone, unreadable, or more than the owner may have: what the kernel knows is what is shown.
  }
  co_return std::move(*turn);
}

// Whether an operation has begun since there were that many, so that what was seen is not
// what is there now. True: it is at work, and makes the device be looked at again; false: it
// has ended meanwhile, and published what this must not undo.
std::optional<bool> DeviceFollower::overtaken(unsigned number, uint64_t claims) {
  if (loops_.claims().claimed(number)) {
    meanwhile_[number];
    return true;
  }
  if (loops_.claims().count(number) != claims) return false;
  return std::nullopt;
}

// How it is looked at, by what is known of it.
loop::DeviceQuestion DeviceFollower::question_of(unsigned number) const {
  loop::DeviceQuestion question{.number = number};
  for (const auto& [sequence, silence] : silent_) {
    if (is_silent(sequence)) question.silent.insert(sequence);
  }
  if (const Device* known = registry_.find(number)) {
    question.known_sequence = known->snapshot.disk_sequence;
    question.known_terms = known->terms;
  }
  if (asks_for_symlinks_ && !links_.contains(number)) question.symlinks_of = symlinks_of_;
  return question;
}

// Nothing: no file is attached.
Task<std::optional<loop::DeviceSight>> DeviceFollower::see(unsigned number) {
  Look look{reader_, question_of(number)};
  const auto deadline = Clock::now() + describe_patience;
  std::optional<loop::DeviceSight> sight;
  try {
    sight = co_await on_worker(scheduler_, look_lane, look, deadline);
    co_return sight;
  } catch (const WorkTimedOut&) {
    // A disk below a file system of the kernel's own may not answer either. sysfs does.
  }
  look.question.ask_device = false;
  sight = co_await on_worker(scheduler_, kernel_lane, look);
  if (sight) fall_silent(number, sight->disk_sequence());
  co_return sight;
}

// The sight travels by value: should the worker come back late, it writes into what
// nobody reads any more.
Task<loop::DeviceSight> DeviceFollower::describe_patiently(loop::DeviceSight sight) {
  const auto work = [&reader = reader_, sight]() mutable {
    reader.describe(sight);
    return std::move(sight);
  };
  try {
    sight = co_await on_worker(scheduler_, server_lane, work, Clock::now() + describe_patience);
  } catch (const WorkTimedOut&) {
    fall_silent(sight.examination.snapshot.number, sight.disk_sequence());
  } catch (const loop::Error& error) {
    if (error.code() != loop::Errc::limits_exceeded && error.code() != loop::Errc::timeout) throw;
    fall_silent(sight.examination.snapshot.number, sight.disk_sequence());
  }
  co_return sight;
}

// An attach that was given up while it waited in LOOP_CONFIGURE: nobody holds the number
// any more.
Task<void> DeviceFollower::forgive_if_released(unsigned number) {
  if (!loops_.is_avoided(number)) co_return;
  const auto work = [&loops = loops_, number] {
    if (!loop::find_holders(loops.kernel(), number).empty()) return;
    // First: who takes the number next writes an intent of its own.
    if (loops.records()) loops.records()->erase_intent(number);
    loops.forgive(number);
  };
  co_await on_worker(scheduler_, kernel_lane, work);
}

Task<void> DeviceFollower::withdraw(unsigned number) {
  std::optional<loop::AttachmentRecord> gone;
  if (const Device* known = registry_.find(number)) {
    gone.emplace();
    gone->number = number;
    gone->disk_sequence = known->snapshot.disk_sequence;
    static_cast<loop::AttachmentTerms&>(*gone) = known->terms;
  } else if (auto recorded = unseen_.extract(number)) {
    gone = std::move(recorded.mapped());
  }
  if (gone) forget(gone->disk_sequence);
  registry_.withdraw(number);
  backing_files_.forget(number);
  nodes_.forget(number);
  if (gone && (gone->keeps_partitions || gone->delete_node)) co_await clean_up(number, std::move(*gone));
}

// False: the device became another attachment while it was looked at.
Task<bool> DeviceFollower::look_once(unsigned number) {
  const auto turn = co_await turns_.acquire(number % most_looks_at_once);
  const uint64_t claims = loops_.claims().count(number);
  // What would be seen is half-way, and may be published and done with when it comes back.
  if (const auto done = overtaken(number, claims)) co_return *done;
  const PartitionQuota::Turn owners_turn = co_await sync_if_rewritten(number);
  std::optional<loop::DeviceSight> sight = co_await see(number);
  if (const auto done = overtaken(number, claims)) co_return *done;
  if (!sight) {
    co_await forgive_if_released(number);
    if (const auto done = overtaken(number, claims)) co_return *done;
    co_await withdraw(number);
    if (const auto done = overtaken(number, claims)) co_return *done;
    free_numbers_.note(number, loops_.kernel().has_attribute(number, "dev"));
    co_return true;
  }
  if (!sight->described && !is_silent(sight->disk_sequence())) {
    sight = co_await describe_patiently(std::move(*sight));
  }
  if (sight->stale) co_return false;
  if (const auto done = overtaken(number, claims)) co_return *done;
  publish(std::move(*sight));
  co_return true;
}

void DeviceFollower::publish(loop::DeviceSight sight) {
  const Device* known = registry_.find(sight.examination.snapshot.number);
  const bool same = known != nullptr && known->snapshot.disk_sequence == sight.disk_sequence();
  if (sight.described) {
    silent_.erase(sight.disk_sequence());
  } else if (same) {
    keep_description(*known, sight.examination);
  }
  const auto symlinks = symlinks_of(sight, same ? known : nullptr);
  Device device = device_of(std::move(sight.examination));
  device.terms = same ? known->terms : sight.terms;
  if (symlinks) device.symlinks = *symlinks;
  watch_node(device);
  const unsigned number = device.snapshot.number;
  publish(std::move(device));
  // A look that began when the links were not asked for yet, and ended when they had been added.
  if (has_udev_ && asks_for_symlinks_ && !symlinks) {
    changed_.insert(number);
    start_looks_soon();
  }
}

// The number may have become another attachment without having been seen free.
void DeviceFollower::publish(Device device) {
  const unsigned number = device.snapshot.number;
  const auto forget_if_other = [this, now = device.snapshot.disk_sequence](uint64_t sequence) {
    if (sequence != now) forget(sequence);
  };
  if (const Device* known = registry_.find(number)) forget_if_other(known->snapshot.disk_sequence);
  if (const auto recorded = unseen_.extract(number)) forget_if_other(recorded.mapped().disk_sequence);
  free_numbers_.note(number, false);
  registry_.publish(std::move(device));
}

// It did not answer, and is asked again some time.
void DeviceFollower::fall_silent(unsigned number, uint64_t disk_sequence) {
  Silence fresh{Backoff(first_silence, longest_silence), {}, nullptr};
  Silence& silence = silent_.try_emplace(disk_sequence, std::move(fresh)).first->second;
  silence.until = Clock::now() + silence.length.next();
  silence.question = scheduler_.at(silence.until, [this, number] { start_look(number); });
}

bool DeviceFollower::is_silent(uint64_t disk_sequence) const {
  const auto found = silent_.find(disk_sequence);
  return found != silent_.end() && Clock::now() < found->second.until;
}

// What is kept of an attachment that is gone.
void DeviceFollower::forget(uint64_t disk_sequence) {
  if (loops_.records()) loops_.records()->erase(disk_sequence);
  silent_.erase(disk_sequence);
}

// By udev's last event, by the look, or as it was known before. Nothing: not known.
std::optional<std::vector<std::string>> DeviceFollower::symlinks_of(const loop::DeviceSight& sight,
                                                                    const Device* same) const {
  const auto links = links_.find(sight.examination.snapshot.number);
  if (links != links_.end()) {
    // Links of the attachment before are none of this one.
    const uint64_t sequence = links->second.disk_sequence;
    if (sequence == 0 || sequence == sight.disk_sequence()) return links->second.paths;
    return std::vector<std::string>();
  }
  if (sight.symlinks || same == nullptr) return sight.symlinks;
  return same->symlinks;
}

// What an attachment of this service leaves on the number when somebody else
// detached it, or when a lazy removal came to its end.
Task<void> DeviceFollower::clean_up(unsigned number, loop::AttachmentRecord record) {
  loop::LoopManager& loops = loops_;
  const auto work = [&loops, number, record] {
    if (record.keeps_partitions) loops.delete_leftover_partitions(number);
    if (record.delete_node) {
      loop::delete_node(loops.kernel(), number, loop::deadline_in(clean_up_patience));
    }
  };
  try {
    co_await on_worker(scheduler_, kernel_lane, work);
  } catch (const loop::Error&) {
    // Somebody holds the unbound node open; it stays, for the next attach.
  }
}

void DeviceFollower::publish(const loop::Attachment& attachment) {
  loop::Examination examination;
  examination.snapshot = attachment.snapshot();
  if (attachment.record().keeps_partitions) {
    examination.partitions = loop::known_partitions(loops_.kernel(), examination.snapshot.number);
    loop::apply_entries(attachment.partitions(), examination.partitions);
  }
  Device device = device_of(std::move(examination));
  device.terms = attachment.record();
  watch_node(device);
  if (const auto links = links_.find(device.snapshot.number);
      links != links_.end() && links->second.disk_sequence == device.snapshot.disk_sequence) {
    device.symlinks = links->second.paths;
  }
  publish(std::move(device));
}

Task<bool> DeviceFollower::wait_for_udev(unsigned number, uint64_t disk_sequence,
                                         std::vector<loop::TableEntry> partitions) {
  // One that ran at the start may have ended.
  if (!has_udev_ || partitions.empty() || !loop::udev_is_running()) co_return true;
  auto all_ready = [this, number, disk_sequence, &partitions] {
    const Meanwhile& meanwhile = meanwhile_[number];
    return meanwhile.disk_sequence == disk_sequence &&
           std::all_of(partitions.begin(), partitions.end(), [&](const loop::TableEntry& entry) {
             return meanwhile.ready.contains(entry.extent.number);
           });
  };
  if (all_ready()) co_return true;
  OneShot<bool> done;
  const auto sender = done.sender();
  meanwhile_[number].changed = [sender, all_ready] {
    if (all_ready()) sender.deliver(true);
  };
  const auto timer = scheduler_.at(Clock::now() + udev_patience, [sender] { sender.deliver(false); });
  const bool in_time = co_await done;
  meanwhile_[number].changed = nullptr;
  // A udevd that has ended meanwhile is not waited for: the nodes are the
  // kernel's own.
  co_return in_time || !loop::udev_is_running();
}

Task<void> DeviceFollower::start() { return enumeration_.start(); }

Task<void> DeviceFollower::add_symlinks() { return enumeration_.add_symlinks(); }

Task<void> DeviceFollower::enumerate() { return enumeration_.look_at_all(); }

}  // namespace loopd
