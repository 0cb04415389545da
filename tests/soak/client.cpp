// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/client.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "tests/bus/scratch.hpp"
#include "tests/bus/stack.hpp"
#include "tests/soak/signal_ledger.hpp"
#include "tests/support/image.hpp"

namespace soak {

using bus_test::BusClient;
using bus_test::Clock;
using bus_test::milliseconds;
using bus_test::MountPoint;
using bus_test::Reply;
using bus_test::Value;

namespace {

constexpr const char* overlap = "org.example.Loop1.Error.Overlap";
constexpr int most_refusals = 10;

// Users in turn: root, and two who attach with polkit's leave.
uid_t user_of(unsigned index) {
  constexpr std::array<uid_t, 4> users{0, bus_test::allowed_user, 0, bus_test::another_user};
  return users[index % users.size()];
}

std::string text_of(const Reply& reply) {
  std::ostringstream text;
  text << reply;
  return text.str();
}

uint64_t sequence_of(int device) {
  uint64_t sequence = 0;
  return ::ioctl(device, BLKGETDISKSEQ, &sequence) == 0 ? sequence : 0;
}

loop::UniqueFd open_device(const std::string& node, int flags) {
  return loop::UniqueFd(::open(node.c_str(), flags | O_CLOEXEC));
}

}  // namespace

Client::Client(World& world, unsigned index)
    : world_(world),
      index_(index),
      uid_(user_of(index)),
      chance_(world.seed, index),
      user_(world.address, uid_),
      root_(world.address) {}

void Client::cycle() {
  const unsigned unique = world_.next_unique++;
  const Plan plan = make_plan(chance_, unique, world_.service_may_die);
  StampedImage image(chance_, plan.image, "allowed-reference-" + std::to_string(unique) + ".img");
  auto device = attach(plan, image);
  if (device) {
    use(*device);
    world_.gate.pass();
    end(*device);
  }
  ++world_.tally.cycles;
}

std::optional<Client::Device> Client::attach(const Plan& plan, StampedImage& image) {
  Device device{.plan = plan, .image = image};
  BusClient* client = &user_;
  if (plan.ending == Ending::lease) {
    device.leaseholder = std::make_unique<BusClient>(world_.address, uid_);
    client = device.leaseholder.get();
  }
  const loop::UniqueFd file = image.file().open(plan.read_only ? O_RDONLY : O_RDWR);
  const Value what = plan.by_path ? bus_test::text(image.file().path()) : bus_test::handle(file.get());
  const Reply reply =
      client->manager(plan.by_path ? "AttachPath" : "Attach", {what, bus_test::options(plan.options())});
  if (lost(reply)) {
    resolve_lost_attach(image);
    return std::nullopt;
  }
  // A number that is asked for has no file yet when its device is made, and any losetup may
  // be given it first.
  if (plan.number != 0 && reply.error == bus_test::device_busy) return std::nullopt;
  if (!reply.ok()) {
    world_.findings.add("attaching " + image.file().path() + ": " + text_of(reply));
    return std::nullopt;
  }
  device.object = reply.values.at(0).text;
  device.number = bus_test::number_of(device.object);
  learn(device);
  return device;
}

// Of a device that was just promised.
void Client::learn(Device& device) {
  device.disk_sequence = std::stoull(bus_test::sysfs(device.number, "diskseq").value_or("0"));
  const auto status = device.image.file().status();
  world_.promises.add({.number = device.number,
                       .disk_sequence = device.disk_sequence,
                       .owner = uid_,
                       .dev = status.st_dev,
                       .inode = status.st_ino,
                       .partition_scan = device.plan.partition_scan,
                       .lease = device.leaseholder ? device.leaseholder->unique_name() : ""});
  ++world_.tally.attached;
  std::set<unsigned> partitions;
  if (device.plan.partition_scan) {
    for (const PlannedPartition& partition : device.image.partitions()) partitions.insert(partition.number);
  }
  world_.tally.partitions += static_cast<unsigned>(partitions.size());
  if (world_.ledger) world_.ledger->promised(device.disk_sequence, std::move(partitions));
  check_promise(device);
}

// The service died before it answered: the device is gone, or there with its owner.
// Where it could not be undone, as somebody uses it, it is root's.
void Client::resolve_lost_attach(const StampedImage& image) {
  ++world_.tally.lost_attaches;
  const std::vector<std::string> found = devices_of(image);
  if (found.empty()) ++world_.tally.half_made_gone;
  if (found.size() > 1) world_.findings.add(image.file().path() + " was attached more than once");
  for (const std::string& object : found) {
    const Reply owner = ask([&] { return root_.property(object, "OwnerUID"); });
    if (!owner.ok() || (owner.values.at(0).number != uid_ && owner.values.at(0).number != 0)) {
      world_.findings.add("half-made " + object + " for user " + std::to_string(uid_) + " is of " +
                          text_of(owner));
    }
    const bool mine = owner.ok() && owner.values.at(0).number == uid_;
    ++(mine ? world_.tally.half_made_owned : world_.tally.half_made_foreign);
    remove_half_made(object, image);
  }
}

void Client::remove_half_made(const std::string& object, const StampedImage& image) {
  const Reply sequence = ask([&] { return root_.property(object, "DiskSequence"); });
  const bool went = sequence.ok() && eventually([&] {
                      // With its sequence: where the answer is lost it may be gone, and the number another's.
                      ask([&] { return root_.remove(object, {{"disk-sequence", sequence.values.at(0)}}); });
                      return devices_of(image).empty();
                    });
  if (!went) world_.findings.add("half-made " + object + " can't be removed");
}

void Client::use(Device& device) {
  compare_by_node(device);
  compare_partitions(device);
  for (uint64_t left = chance_.between(1, 3); left > 0; --left) {
    ++world_.tally.used;
    switch (chance_.below(7)) {
      case 0:
        compare_by_descriptor(device);
        break;
      case 1:
        write_through(device);
        break;
      case 2:
        mount_and_be_refused(device);
        break;
      case 3:
        find(device);
        break;
      case 4:
        reuse(device);
        break;
      case 5:
        be_refused_overlap(device);
        break;
      default:
        check_promise(device);
    }
  }
  compare_by_node(device);
}

void Client::check_promise(const Device& device) {
  const Reply reply = ask([&] { return user_.properties(device.object); });
  if (!reply.ok()) return complain(device, "is not there: " + text_of(reply));
  check_properties(device, reply.values.at(0));
  if (bus_test::sysfs(device.number, "diskseq") != std::to_string(device.disk_sequence)) {
    complain(device, "is another attachment");
  }
  if (bus_test::sysfs(device.number, "loop/backing_file") != device.image.file().path()) {
    complain(device, "has another file");
  }
}

void Client::check_properties(const Device& device, const Value& properties) {
  const auto status = device.image.file().status();
  const auto expect = [&](const char* name, const Value& expected) {
    if (properties.at(name) == expected) return;
    std::ostringstream text;
    text << name << " is " << properties.at(name) << " instead of " << expected;
    complain(device, text.str());
  };
  expect("OwnerUID", bus_test::u32(uid_));
  expect("DiskSequence", bus_test::u64(device.disk_sequence));
  expect("BackingInode", bus_test::u64(status.st_ino));
  expect("BackingDev", bus_test::u64(status.st_dev));
  expect("BackingFile", bus_test::text(device.image.file().path()));
  expect("ReadOnly", bus_test::boolean(device.plan.read_only));
  expect("Offset", bus_test::u64(device.image.plan().before));
  expect("SizeLimit", bus_test::u64(device.image.plan().behind != 0 ? device.image.size() : 0));
  expect("Size", bus_test::u64(device.image.size()));
  expect("PartitionScan", bus_test::boolean(device.plan.partition_scan));
  expect("Reference", bus_test::text(device.plan.reference));
  expect("Lease", bus_test::text(device.leaseholder ? device.leaseholder->unique_name() : ""));
  if (device.plan.block_size != 0) expect("BlockSize", bus_test::u32(device.plan.block_size));
  if (device.plan.ending != Ending::autoclear) expect("Autoclear", bus_test::boolean(false));
  Value partitions{.type = 'a', .element = "o"};
  for (const PlannedPartition& partition : device.image.partitions()) {
    if (!device.plan.partition_scan) break;
    partitions.items.push_back(bus_test::path(device.object + "/p" + std::to_string(partition.number)));
  }
  expect("Partitions", partitions);
}

void Client::compare(const Device& device, int file, const std::string& how) {
  if (sequence_of(file) != device.disk_sequence) return complain(device, how + " leads to another device");
  const std::string read = loop::testing::read_at(file, 0, device.image.size());
  world_.tally.bytes_compared += read.size();
  if (read != device.image.expected(0, device.image.size())) complain(device, how + " shows other bytes");
}

void Client::compare_by_node(const Device& device) {
  const loop::UniqueFd node = open_device(device.node(), O_RDONLY);
  if (!node) return complain(device, "has no node");
  compare(device, node.get(), "the node");
}

void Client::compare_by_descriptor(const Device& device) {
  if (device.plan.ending == Ending::autoclear) return;  // it would be the last use
  const Reply reply = ask([&] { return root_.device(device.object, "Open", {bus_test::text("r")}); });
  if (!reply.ok()) return complain(device, "does not open: " + text_of(reply));
  compare(device, reply.values.at(0).file->get(), "the descriptor of Open");
}

void Client::compare_partitions(const Device& device) {
  if (!device.plan.partition_scan) return;
  for (const PlannedPartition& partition : device.image.partitions()) {
    const std::string name = "p" + std::to_string(partition.number);
    const loop::UniqueFd node = open_device(device.node() + name, O_RDONLY);
    if (!node) {
      complain(device, "has no node of " + name);
      continue;
    }
    const std::string read = loop::testing::read_at(node.get(), 0, partition.size + 1);
    world_.tally.bytes_compared += read.size();
    if (read != device.image.expected(partition.offset, partition.size)) {
      complain(device, name + " shows other bytes");
    }
  }
}

void Client::write_through(Device& device) {
  if (device.plan.read_only || device.plan.image.kind == ImageKind::filesystem) return;
  const loop::UniqueFd node = open_device(device.node(), O_RDWR);
  if (!node || sequence_of(node.get()) != device.disk_sequence) return complain(device, "has no own node");
  const uint64_t at = device.image.restamp(chance_);
  loop::testing::write_at(node.get(), at, device.image.expected(at, StampedImage::page));
  if (chance_.one_in(2)) ::fsync(node.get());  // a removal writes back what is left
}

void Client::mount_and_be_refused(const Device& device) {
  if (device.plan.image.kind != ImageKind::filesystem || device.plan.ending == Ending::autoclear) return;
  const MountPoint point("mount-" + std::to_string(index_));
  const auto mounted = bus_test::run({"mount", "-t", "ext4", "-o", "ro,noload", device.node(), point.path()});
  if (mounted.status != 0) return complain(device, "does not mount: " + mounted.output);
  const loop::UniqueFd stamp = open_device(point.path() + "/stamp", O_RDONLY);
  if (!stamp ||
      loop::testing::read_at(stamp.get(), 0, 2 * StampedImage::stamp_size) != device.image.stamp()) {
    complain(device, "has another file system");
  }
  const Reply removed = ask([&] { return user_.device(device.object, "Remove"); });
  if (removed.error != bus_test::device_busy) complain(device, "mounted, is removed: " + text_of(removed));
  check_promise(device);
}

void Client::find(const Device& device) {
  const std::vector<std::string> found = devices_of(device.image);
  if (found == std::vector<std::string>{device.object}) return;
  complain(device, "is not what is found by its file: " + described(found));
}

// What is attached as each of these objects' numbers now.
std::string Client::described(const std::vector<std::string>& objects) {
  std::string text;
  for (const std::string& object : objects) {
    const unsigned number = bus_test::number_of(object);
    text += " " + object + " (disk sequence " + bus_test::sysfs(number, "diskseq").value_or("none") + ", " +
            bus_test::sysfs(number, "loop/backing_file").value_or("free") + ")";
  }
  return text;
}

void Client::reuse(const Device& device) {
  if (device.leaseholder || !device.plan.options().empty()) return;
  const auto attach_again = [&] {
    return user_.attach(device.image.file().fd(), {{"reuse", bus_test::boolean(true)}});
  };
  const Reply reply = ask(attach_again);
  if (!reply.ok() || reply.values.at(0).text != device.object) {
    complain(device, "is not reused: " + text_of(reply));
  }
}

void Client::be_refused_overlap(const Device& device) {
  if (device.plan.read_only) return;
  const Reply reply = ask([&] { return user_.attach(device.image.file().fd()); });
  if (reply.error != overlap) complain(device, "lets another device have its bytes: " + text_of(reply));
}

void Client::end(Device& device) {
  world_.promises.forget(device.disk_sequence);
  switch (device.plan.ending) {
    case Ending::remove:
      remove(device, {});
      break;
    case Ending::remove_by_sequence:
      remove(device, {{"disk-sequence", bus_test::u64(device.disk_sequence)}});
      break;
    case Ending::keep_node:
      remove(device, {{"keep-node", bus_test::boolean(true)}});
      break;
    case Ending::lazy:
      detach_lazily(device);
      break;
    case Ending::lease:
      leave(device);
      break;
    case Ending::autoclear:
      use_for_the_last_time(device);
      break;
    case Ending::foreign:
      detach_by_hand(device);
      break;
  }
  check_gone(device);
}

// Refused while udev, losetup or the like look at it, and then nothing has changed.
void Client::remove(const Device& device, const bus_test::Options& wishes) {
  Reply reply;
  for (int attempt = 0; attempt < most_refusals; ++attempt) {
    reply = user_.remove(device.object, wishes);
    if (reply.ok()) return;
    if (lost(reply)) {
      ++world_.tally.lost_removals;
      if (is_gone_after_lost_call(device)) return;
    } else if (reply.error == bus_test::device_busy) {
      ++world_.tally.refused;
      check_promise(device);
    } else {
      break;
    }
  }
  complain(device, "is not removed: " + text_of(reply));
}

// The service died before it answered a removal. Half of one is taken back.
bool Client::is_gone_after_lost_call(const Device& device) {
  if (devices_of(device.image).empty()) return true;
  check_promise(device);
  return false;
}

void Client::leave(Device& device) {
  device.leaseholder.reset();
  if (!eventually([&] { return devices_of(device.image).empty(); })) complain(device, "outlives its lease");
}

void Client::detach_lazily(const Device& device) {
  {
    const loop::UniqueFd held = open_device(device.node(), O_RDONLY);
    remove(device, {{"lazy", bus_test::boolean(true)}});
    compare(device, held.get(), "what is held after a lazy removal");
  }
  if (!eventually([&] { return devices_of(device.image).empty(); })) complain(device, "is not let go of");
}

void Client::use_for_the_last_time(const Device& device) {
  {
    const Reply opened = root_.device(device.object, "Open", {bus_test::text("r")});
    if (!opened.ok()) return complain(device, "does not open: " + text_of(opened));
    compare(device, opened.values.at(0).file->get(), "the descriptor of Open");
    const bool armed = eventually(
        [&] { return bus_test::sysfs(device.number, "loop/autoclear") == std::optional<std::string>("1"); });
    if (!armed) return complain(device, "is used, and autoclear is not armed");
  }
  if (!eventually([&] { return devices_of(device.image).empty(); })) complain(device, "outlives its use");
}

void Client::detach_by_hand(const Device& device) {
  {
    const loop::UniqueFd node = open_device(device.node(), O_RDONLY);
    if (!node || sequence_of(node.get()) != device.disk_sequence) return complain(device, "has no own node");
    // What a writer leaves that closes while udev has the device open, too, nobody has written back; and
    // since 6.11 it is lost when the only opener detaches. The service writes it back, losetup does not.
    ::fsync(node.get());
    if (::ioctl(node.get(), LOOP_CLR_FD, 0) < 0) return complain(device, "can't be detached by hand");
  }
  // With the close, or with that of udev. The number may be another's at once.
  const std::string sequence = std::to_string(device.disk_sequence);
  const bool detached = eventually([&] { return bus_test::sysfs(device.number, "diskseq") != sequence; });
  // What is detached by udev's close is told when that has returned.
  if (!detached || !eventually([&] { return devices_of(device.image).empty(); })) {
    complain(device, "stays after it was detached by hand");
  }
}

void Client::check_gone(const Device& device) {
  // At once, not at some time: a reply says that it is so.
  const std::vector<std::string> left = devices_of(device.image);
  if (!left.empty()) complain(device, "is removed, and found by its file:" + described(left));
  if (!device.image.is_in_file()) complain(device, "has left other bytes in its file");
}

std::vector<std::string> Client::devices_of(const StampedImage& image) {
  const Reply reply = ask([&] { return root_.manager("FindByFile", {bus_test::handle(image.file().fd())}); });
  if (reply.ok()) return reply.values.at(0).texts();
  world_.findings.add("FindByFile: " + text_of(reply));
  return {};
}

Reply Client::ask(const std::function<Reply()>& question) {
  const auto deadline = Clock::now() + 3 * bus_test::long_enough;
  Reply reply = question();
  while (lost(reply) && Clock::now() < deadline) reply = question();
  return reply;
}

bool Client::eventually(const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + bus_test::long_enough;
  while (!condition()) {
    if (Clock::now() >= deadline) return false;
    root_.wait_for([] { return false; }, milliseconds(10));
  }
  return true;
}

// Nobody answered: the service was killed, or died before it had its name.
bool Client::lost(const Reply& reply) {
  if (!world_.service_may_die || reply.ok()) return false;
  const bool is_lost = reply.error == "org.freedesktop.DBus.Error.NoReply" ||
                       reply.error == "org.freedesktop.DBus.Error.ServiceUnknown" ||
                       reply.error == "org.freedesktop.DBus.Error.NameHasNoOwner" ||
                       reply.error.starts_with("org.freedesktop.DBus.Error.Spawn.");
  if (is_lost) ++world_.tally.lost_calls;
  return is_lost;
}

void Client::complain(const Device& device, const std::string& what) {
  world_.findings.add(device.node() + " (" + device.image.file().path() + ", disk sequence " +
                      std::to_string(device.disk_sequence) + ", ending " +
                      std::to_string(static_cast<int>(device.plan.ending)) + ") " + what);
}

}  // namespace soak
