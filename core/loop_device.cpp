// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/loop_device.hpp"

#include <utility>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/examination.hpp"
#include "core/loop_manager.hpp"

namespace loop {
namespace {

std::shared_ptr<LoopKernel> kernel_here() { return make_linux_loop_kernel(); }

}  // namespace

LoopDevice::LoopDevice(std::shared_ptr<LoopKernel> kernel, DeviceSnapshot snapshot)
    : kernel_(std::move(kernel)), snapshot_(std::move(snapshot)) {}

LoopDevice LoopDevice::attach(const AttachRequest& request) {
  auto kernel = kernel_here();
  LoopManager manager(*kernel);
  Attachment attachment = manager.attach(request);
  LoopDevice device(std::move(kernel), attachment.snapshot());
  device.holder_ = attachment.take_holder();
  attachment.commit();
  return device;
}

LoopDevice LoopDevice::open(const std::string& dev_path) {
  const unsigned number = loop_number_of_disk(dev_path);
  auto kernel = kernel_here();
  auto snapshot = read_snapshot(*kernel, number);
  if (!snapshot) throw Error(Errc::not_attached, dev_path + ": has no file attached");
  return {std::move(kernel), std::move(*snapshot)};
}

DeviceSnapshot LoopDevice::snapshot() const {
  const std::string name = kernel_name(number());
  auto found = examine(*kernel_, number());
  if (!found) throw Error(Errc::not_attached, name + ": is not attached any more");
  if (found->snapshot.disk_sequence != disk_sequence() || !describe(*kernel_, *found)) {
    throw Error(Errc::stale, name + ": is another attachment by now");
  }
  return std::move(found->snapshot);
}

DeviceSizes LoopDevice::refresh_size() { return resize(*kernel_, number(), disk_sequence()); }

void LoopDevice::remove(RemovalOptions options, std::chrono::milliseconds patience) {
  holder_.reset();
  LoopManager manager(*kernel_);
  loop::remove(manager, number(), disk_sequence(), options, patience);
}

}  // namespace loop
