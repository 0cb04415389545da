// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/loop_device.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/device_name.hpp"
#include "core/device_settings.hpp"
#include "core/error.hpp"
#include "core/examination.hpp"
#include "core/loop_manager.hpp"
#include "core/overlap.hpp"
#include "core/partitioning.hpp"
#include "core/removal.hpp"
#include "core/resizing.hpp"

namespace loop {
namespace {

// One for the whole process, so that its threads do not take each other's
// numbers. The objects keep it alive where statics end before them.
struct Machine {
  std::unique_ptr<LoopKernel> kernel = make_linux_loop_kernel();
  LoopManager manager{*kernel};
};

std::shared_ptr<Machine> this_machine() {
  static const auto machine = std::make_shared<Machine>();
  return machine;
}

std::optional<DeviceSnapshot> described_snapshot(LoopKernel& kernel, unsigned number) {
  auto found = identify(kernel, number);
  if (!found || !describe(kernel, *found)) return std::nullopt;
  return std::move(found->snapshot);
}

}  // namespace

// Hidden, though its class is not.
struct __attribute__((visibility("hidden"))) LoopDevice::State {
  std::shared_ptr<Machine> machine;
  DeviceSnapshot identity;           // as it was when the object was made
  std::unique_ptr<LoopNode> holder;  // of an autoclear device

  LoopKernel& kernel() const { return *machine->kernel; }
  unsigned number() const { return identity.number; }
  uint64_t disk_sequence() const { return identity.disk_sequence; }

  Examination look() const {
    const std::string name = kernel_name(number());
    auto found = identify(kernel(), number());
    if (!found) throw Error(Errc::not_attached, name + ": is not attached any more");
    found->partitions = known_partitions(kernel(), number());
    if (found->snapshot.disk_sequence != disk_sequence() || !describe(kernel(), *found)) {
      throw Error(Errc::stale, name + ": is another attachment by now");
    }
    return std::move(*found);
  }

  void set_autoclear(bool enable) const { loop::set_autoclear(kernel(), number(), disk_sequence(), enable); }

  void hold() {
    const int r = kernel().open_node(number(), NodeAccess::read_only, holder);
    if (r < 0) throw Error(Errc::failed, -r, "cannot hold " + identity.dev_path());
  }
};

LoopDevice::LoopDevice(std::unique_ptr<State> state) : state_(std::move(state)) {}
LoopDevice::LoopDevice(LoopDevice&&) noexcept = default;
LoopDevice& LoopDevice::operator=(LoopDevice&&) noexcept = default;
LoopDevice::~LoopDevice() = default;

LoopDevice LoopDevice::attach(const AttachRequest& request) {
  auto machine = this_machine();
  Attachment attachment = machine->manager.attach(request);
  auto state = std::make_unique<State>(State{machine, attachment.snapshot(), attachment.take_holder()});
  attachment.commit();
  return LoopDevice(std::move(state));
}

LoopDevice LoopDevice::open(const std::string& dev_path) {
  const unsigned number = loop_number_of_disk(dev_path);
  auto machine = this_machine();
  auto snapshot = read_snapshot(*machine->kernel, number);
  if (!snapshot) throw Error(Errc::not_attached, dev_path + ": has no file attached");
  return LoopDevice(std::make_unique<State>(State{std::move(machine), std::move(*snapshot), nullptr}));
}

std::vector<LoopDevice> LoopDevice::all() {
  const auto machine = this_machine();
  std::vector<unsigned> numbers = machine->kernel->numbers();
  std::sort(numbers.begin(), numbers.end());
  std::vector<LoopDevice> devices;
  for (const unsigned number : numbers) {
    auto snapshot = read_snapshot(*machine->kernel, number);
    if (!snapshot) continue;
    devices.push_back(LoopDevice(std::make_unique<State>(State{machine, std::move(*snapshot), nullptr})));
  }
  return devices;
}

std::vector<LoopDevice> LoopDevice::find(int file) {
  const FileIdentity identity = identify_file(file);
  std::vector<LoopDevice> found;
  for (LoopDevice& device : all()) {
    const auto snapshot = described_snapshot(device.state_->kernel(), device.number());
    if (!snapshot || !maps_file(*snapshot, identity)) continue;
    device.state_->identity = *snapshot;
    found.push_back(std::move(device));
  }
  std::stable_sort(found.begin(), found.end(), [](const LoopDevice& a, const LoopDevice& b) {
    return a.disk_sequence() > b.disk_sequence();
  });
  return found;
}

unsigned LoopDevice::number() const { return state_->number(); }
std::string LoopDevice::dev_path() const { return state_->identity.dev_path(); }
dev_t LoopDevice::dev() const { return state_->identity.dev; }
uint64_t LoopDevice::disk_sequence() const { return state_->disk_sequence(); }

DeviceSnapshot LoopDevice::snapshot() const { return state_->look().snapshot; }

std::vector<KnownPartition> LoopDevice::partitions() const {
  std::vector<KnownPartition> partitions = state_->look().partitions;
  std::sort(partitions.begin(), partitions.end(), [](const KnownPartition& a, const KnownPartition& b) {
    return a.entry.extent.number < b.entry.extent.number;
  });
  return partitions;
}

DeviceSizes LoopDevice::refresh_size(ResizeOptions options) {
  return resize(state_->kernel(), number(), disk_sequence(), options);
}

void LoopDevice::rescan_partitions() { sync_partitions(state_->kernel(), number(), disk_sequence()); }

void LoopDevice::set_direct_io(bool enable) {
  loop::set_direct_io(state_->kernel(), number(), disk_sequence(), enable);
}

UniqueFd LoopDevice::open_node(bool writable) const {
  return open_device(state_->kernel(), number(), disk_sequence(), writable);
}

void LoopDevice::remove(RemovalOptions options, std::chrono::milliseconds patience) {
  const bool held = state_->holder != nullptr;
  if (held) {
    // Our own descriptor would be in the way, and closing it would detach the
    // device before it is known whether it may go.
    state_->set_autoclear(false);
    state_->holder.reset();
  }
  try {
    loop::remove(state_->machine->manager, number(), disk_sequence(), options, patience);
  } catch (const Error& error) {
    if (held && error.code() == Errc::device_busy) {
      state_->hold();
      state_->set_autoclear(true);
    }
    throw;
  }
}

void LoopDevice::release() { state_->holder.reset(); }

}  // namespace loop
