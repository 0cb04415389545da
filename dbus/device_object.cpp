// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/device_object.hpp"

#include <utility>

#include "core/utf8.hpp"
#include "dbus/names.hpp"

namespace loopd {
namespace {

// Names the caller, then calls the operation. A free function, as the object may
// be gone before the answer comes.
template <typename Operations, typename Answer, typename... Parameters, typename... Arguments>
Task<Answer> call(Operations& operations, Task<Caller> asked,
                  Task<Answer> (Operations::*operation)(Caller, Target, Parameters...), Target target,
                  Arguments... arguments) {
  Caller caller = co_await asked;
  Task<Answer> task = (operations.*operation)(std::move(caller), target, std::move(arguments)...);
  if constexpr (std::is_void_v<Answer>) {
    co_await task;
  } else {
    Answer answer = co_await task;
    co_return answer;
  }
}

std::tuple<uint64_t, uint64_t> both_sizes(const loop::DeviceSizes& sizes) {
  return {sizes.before, sizes.after};
}

}  // namespace

DeviceObject::DeviceObject(sdbus::IConnection& connection, ServiceContext& context, const Device& device)
    : AdaptorInterfaces(connection, sdbus::ObjectPath(device.path())),
      context_(context),
      number_(device.snapshot.number),
      disk_sequence_(device.snapshot.disk_sequence) {
  registerAdaptor();
}

DeviceObject::~DeviceObject() { unregisterAdaptor(); }

void DeviceObject::announce() { getObject().emitInterfacesAddedSignal(); }

void DeviceObject::retire() { getObject().emitInterfacesRemovedSignal(); }

void DeviceObject::changed(const std::vector<std::string>& properties) {
  const std::vector<sdbus::PropertyName> names(properties.begin(), properties.end());
  getObject().emitPropertiesChangedSignal(device_interface, names);
}

void DeviceObject::Resize(sdbus::Result<uint64_t, uint64_t>&& result) {
  ResizeWithOptions(std::move(result), {});
}

void DeviceObject::ResizeWithOptions(sdbus::Result<uint64_t, uint64_t>&& result, Options options) {
  answer_call(context_, alive_, std::move(result),
              call(context_.operations.changing(), context_.caller(), &ChangeOperations::resize, target(),
                   std::move(options)),
              both_sizes);
}

void DeviceObject::Open(sdbus::Result<sdbus::UnixFd>&& result, std::string mode) {
  const auto convert = [](const loop::UniqueFd& fd) { return std::tuple(sdbus::UnixFd(fd.get())); };
  answer_call(context_, alive_, std::move(result),
              call(context_.operations.changing(), context_.caller(), &ChangeOperations::open, target(),
                   std::move(mode)),
              convert);
}

void DeviceObject::SetAutoclear(sdbus::Result<>&& result, bool enable) {
  answer_call(context_, alive_, std::move(result),
              call(context_.operations.changing(), context_.caller(), &ChangeOperations::set_autoclear,
                   target(), enable));
}

void DeviceObject::SetDirectIO(sdbus::Result<>&& result, bool enable) {
  answer_call(context_, alive_, std::move(result),
              call(context_.operations.changing(), context_.caller(), &ChangeOperations::set_direct_io,
                   target(), enable));
}

void DeviceObject::RescanPartitions(sdbus::Result<>&& result) {
  answer_call(context_, alive_, std::move(result),
              call(context_.operations.changing(), context_.caller(), &ChangeOperations::rescan_partitions,
                   target()));
}

void DeviceObject::Remove(sdbus::Result<>&& result) { RemoveWithOptions(std::move(result), {}); }

void DeviceObject::RemoveWithOptions(sdbus::Result<>&& result, Options options) {
  answer_call(context_, alive_, std::move(result),
              call(context_.operations.removing(), context_.caller(), &RemoveOperations::remove, target(),
                   std::move(options)),
              [](const AfterRemoval&) { return std::tuple<>(); });
}

const Device& DeviceObject::device() const {
  // The object lives exactly as long as its entry.
  return *context_.operations.registry().find(number_);
}

// For what changes without an event. GetAll asks for each property in turn:
// the kernel is read once for a message.
const loop::DeviceSnapshot& DeviceObject::fresh_snapshot() {
  const uint64_t message = context_.message_id();
  if (message != 0 && message != refreshed_for_) {
    refreshed_for_ = message;
    context_.operations.finding().refresh(number_);
  }
  return snapshot();
}

std::string DeviceObject::DevPath() { return snapshot().dev_path(); }
uint64_t DeviceObject::Dev() { return snapshot().dev; }
std::string DeviceObject::BackingFile() { return loop::escape_to_utf8(fresh_snapshot().backing_file); }
std::vector<uint8_t> DeviceObject::BackingFileBytes() {
  const std::string& path = fresh_snapshot().backing_file;
  std::vector<uint8_t> bytes(path.begin(), path.end());
  bytes.push_back(0);
  return bytes;
}
bool DeviceObject::BackingFileDeleted() { return fresh_snapshot().backing_file_deleted; }
uint64_t DeviceObject::BackingFileSize() { return snapshot().backing_size; }
uint64_t DeviceObject::BackingInode() { return snapshot().backing.inode; }
uint64_t DeviceObject::BackingDev() { return snapshot().backing.dev; }
uint32_t DeviceObject::Number() { return number_; }
uint64_t DeviceObject::DiskSequence() { return disk_sequence_; }
uint64_t DeviceObject::Size() { return snapshot().size; }
uint64_t DeviceObject::Offset() { return snapshot().offset; }
uint64_t DeviceObject::SizeLimit() { return snapshot().size_limit; }
uint32_t DeviceObject::BlockSize() { return fresh_snapshot().block_size; }
bool DeviceObject::ReadOnly() { return snapshot().read_only; }
bool DeviceObject::Autoclear() { return fresh_snapshot().autoclear; }
bool DeviceObject::PartitionScan() {
  return device().terms.keeps_partitions || snapshot().kernel_partition_scan;
}
bool DeviceObject::DirectIO() { return fresh_snapshot().direct_io; }
std::string DeviceObject::Reference() { return snapshot().reference; }
uint32_t DeviceObject::OwnerUID() { return device().terms.owner; }
std::string DeviceObject::Lease() {
  // Which peer it is means nothing to anybody else.
  const std::string& holder = device().terms.lease;
  return is_private_name(holder) ? "private" : holder;
}
std::vector<sdbus::ObjectPath> DeviceObject::Partitions() {
  std::vector<sdbus::ObjectPath> paths;
  for (const auto& [number, partition] : device().partitions)
    paths.emplace_back(device().partition_path(number));
  return paths;
}
std::vector<std::string> DeviceObject::Symlinks() { return device().symlinks; }

}  // namespace loopd
