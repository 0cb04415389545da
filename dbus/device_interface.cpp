// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/device_interface.hpp"

#include <utility>

#include "core/error.hpp"
#include "core/utf8.hpp"
#include "dbus/names.hpp"
#include "dbus/object_path.hpp"

namespace loopd {
namespace {

// Names the caller, then calls the operation. A free function, as the connection may
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

DeviceInterface::DeviceInterface(sd_bus* bus, ServiceContext& context) : context_(context) {
  slot_ = add_fallback_vtable(bus, device_interface, vtable, find, this);
}

int DeviceInterface::find(sd_bus*, const char* path, const char*, void* self, void** found, sd_bus_error*) {
  auto* interface = static_cast<DeviceInterface*>(self);
  const auto parsed = parse_path(path);
  if (!parsed || parsed->partition) return 0;
  const Device* device = interface->context_.operations.registry().find(parsed->device);
  if (device == nullptr) return 0;
  interface->device_ = device;
  interface->number_ = parsed->device;
  *found = interface;
  return 1;
}

void DeviceInterface::Resize(CallResult<uint64_t, uint64_t> result) {
  ResizeWithOptions(std::move(result), {});
}

void DeviceInterface::ResizeWithOptions(CallResult<uint64_t, uint64_t> result, Options options) {
  answer_call(context_, context_.alive(), std::move(result),
              call(context_.operations.changing(), context_.caller(), &ChangeOperations::resize, target(),
                   std::move(options)),
              both_sizes);
}

void DeviceInterface::Open(CallResult<sdbus::UnixFd> result, std::string mode) {
  const auto convert = [](const loop::UniqueFd& fd) { return std::tuple(sdbus::UnixFd(fd.get())); };
  answer_call(context_, context_.alive(), std::move(result),
              call(context_.operations.changing(), context_.caller(), &ChangeOperations::open, target(),
                   std::move(mode)),
              convert);
}

void DeviceInterface::SetAutoclear(CallResult<> result, bool enable) {
  answer_call(context_, context_.alive(), std::move(result),
              call(context_.operations.changing(), context_.caller(), &ChangeOperations::set_autoclear,
                   target(), enable));
}

void DeviceInterface::SetDirectIO(CallResult<> result, bool enable) {
  answer_call(context_, context_.alive(), std::move(result),
              call(context_.operations.changing(), context_.caller(), &ChangeOperations::set_direct_io,
                   target(), enable));
}

void DeviceInterface::RescanPartitions(CallResult<> result) {
  answer_call(context_, context_.alive(), std::move(result),
              call(context_.operations.changing(), context_.caller(), &ChangeOperations::rescan_partitions,
                   target()));
}

void DeviceInterface::Remove(CallResult<> result) { RemoveWithOptions(std::move(result), {}); }

void DeviceInterface::RemoveWithOptions(CallResult<> result, Options options) {
  answer_call(context_, context_.alive(), std::move(result),
              call(context_.operations.removing(), context_.caller(), &RemoveOperations::remove, target(),
                   std::move(options)),
              [](const AfterRemoval&) { return std::tuple<>(); });
}

// For what changes without an event. GetAll asks for each property in turn:
// the kernel is read once for a message.
const loop::DeviceSnapshot& DeviceInterface::fresh_snapshot(loop::Volatile what) {
  const Question question = context_.question();
  if (question.id != 0 && (question.id != refreshed_for_ || number_ != refreshed_number_)) {
    refreshed_for_ = question.id;
    refreshed_number_ = number_;
    context_.operations.finding().refresh(number_, question.for_one_property ? what : loop::Volatile::all);
  }
  return snapshot();
}

std::string DeviceInterface::DevPath() { return snapshot().dev_path(); }
uint64_t DeviceInterface::Dev() { return snapshot().dev; }
std::string DeviceInterface::BackingFile() {
  return loop::escape_to_utf8(fresh_snapshot(loop::Volatile::backing_file).backing_file);
}
std::vector<uint8_t> DeviceInterface::BackingFileBytes() {
  const std::string& path = fresh_snapshot(loop::Volatile::backing_file).backing_file;
  std::vector<uint8_t> bytes(path.begin(), path.end());
  bytes.push_back(0);
  return bytes;
}
bool DeviceInterface::BackingFileDeleted() {
  return fresh_snapshot(loop::Volatile::backing_file).backing_file_deleted;
}
uint64_t DeviceInterface::BackingFileSize() { return snapshot().backing_size; }
uint64_t DeviceInterface::BackingInode() { return snapshot().backing.inode; }
uint64_t DeviceInterface::BackingDev() { return snapshot().backing.dev; }
uint32_t DeviceInterface::Number() { return number_; }
uint64_t DeviceInterface::DiskSequence() { return snapshot().disk_sequence; }
uint64_t DeviceInterface::Size() { return snapshot().size; }
uint64_t DeviceInterface::Offset() { return snapshot().offset; }
uint64_t DeviceInterface::SizeLimit() { return snapshot().size_limit; }
uint32_t DeviceInterface::BlockSize() { return fresh_snapshot(loop::Volatile::block_size).block_size; }
bool DeviceInterface::ReadOnly() { return snapshot().read_only; }
bool DeviceInterface::Autoclear() { return fresh_snapshot(loop::Volatile::autoclear).autoclear; }
bool DeviceInterface::PartitionScan() {
  return device().terms.keeps_partitions || snapshot().kernel_partition_scan;
}
bool DeviceInterface::DirectIO() { return fresh_snapshot(loop::Volatile::direct_io).direct_io; }
const std::string& DeviceInterface::Reference() { return snapshot().reference; }
uint32_t DeviceInterface::OwnerUID() { return device().terms.owner; }
std::string DeviceInterface::Lease() {
  // Which peer it is means nothing to anybody else.
  const std::string& holder = device().terms.lease;
  return is_private_name(holder) ? "private" : holder;
}
std::vector<sdbus::ObjectPath> DeviceInterface::Partitions() {
  std::vector<sdbus::ObjectPath> paths;
  for (const auto& [number, partition] : device().partitions)
    paths.emplace_back(device().partition_path(number));
  return paths;
}
const std::vector<std::string>& DeviceInterface::Symlinks() { return device().symlinks; }

// As dbus/org.example.Loop1.xml has it; the test Contract compares them.
const sd_bus_vtable DeviceInterface::vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Resize", SD_BUS_NO_ARGS, SD_BUS_RESULT("t", old_size, "t", new_size),
                            call_method<&DeviceInterface::Resize>, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ResizeWithOptions", SD_BUS_ARGS("a{sv}", options),
                            SD_BUS_RESULT("t", old_size, "t", new_size),
                            call_method<&DeviceInterface::ResizeWithOptions>, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Remove", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, call_method<&DeviceInterface::Remove>,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("RemoveWithOptions", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            call_method<&DeviceInterface::RemoveWithOptions>, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Open", SD_BUS_ARGS("s", mode), SD_BUS_RESULT("h", device),
                            call_method<&DeviceInterface::Open>, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("SetAutoclear", SD_BUS_ARGS("b", enable), SD_BUS_NO_RESULT,
                            call_method<&DeviceInterface::SetAutoclear>, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("SetDirectIO", SD_BUS_ARGS("b", enable), SD_BUS_NO_RESULT,
                            call_method<&DeviceInterface::SetDirectIO>, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("RescanPartitions", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT,
                            call_method<&DeviceInterface::RescanPartitions>, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_SIGNAL_WITH_ARGS("PartitionAdded", SD_BUS_ARGS("o", partition, "s", dev_path, "u", number), 0),
    SD_BUS_SIGNAL_WITH_ARGS("PartitionRemoved", SD_BUS_ARGS("o", partition, "s", dev_path, "u", number), 0),
    SD_BUS_PROPERTY("DevPath", "s", get_property<&DeviceInterface::DevPath>, 0, constant),
    SD_BUS_PROPERTY("Dev", "t", get_property<&DeviceInterface::Dev>, 0, constant),
    SD_BUS_PROPERTY("BackingFile", "s", get_property<&DeviceInterface::BackingFile>, 0, changing),
    SD_BUS_PROPERTY("BackingFileBytes", "ay", get_property<&DeviceInterface::BackingFileBytes>, 0, changing),
    SD_BUS_PROPERTY("BackingFileDeleted", "b", get_property<&DeviceInterface::BackingFileDeleted>, 0,
                    changing),
    SD_BUS_PROPERTY("BackingFileSize", "t", get_property<&DeviceInterface::BackingFileSize>, 0, changing),
    SD_BUS_PROPERTY("BackingInode", "t", get_property<&DeviceInterface::BackingInode>, 0, changing),
    SD_BUS_PROPERTY("BackingDev", "t", get_property<&DeviceInterface::BackingDev>, 0, changing),
    SD_BUS_PROPERTY("Number", "u", get_property<&DeviceInterface::Number>, 0, constant),
    SD_BUS_PROPERTY("DiskSequence", "t", get_property<&DeviceInterface::DiskSequence>, 0, constant),
    SD_BUS_PROPERTY("Size", "t", get_property<&DeviceInterface::Size>, 0, changing),
    SD_BUS_PROPERTY("Offset", "t", get_property<&DeviceInterface::Offset>, 0, changing),
    SD_BUS_PROPERTY("SizeLimit", "t", get_property<&DeviceInterface::SizeLimit>, 0, changing),
    SD_BUS_PROPERTY("BlockSize", "u", get_property<&DeviceInterface::BlockSize>, 0, changing),
    SD_BUS_PROPERTY("ReadOnly", "b", get_property<&DeviceInterface::ReadOnly>, 0, changing),
    SD_BUS_PROPERTY("Autoclear", "b", get_property<&DeviceInterface::Autoclear>, 0, changing),
    SD_BUS_PROPERTY("PartitionScan", "b", get_property<&DeviceInterface::PartitionScan>, 0, changing),
    SD_BUS_PROPERTY("DirectIO", "b", get_property<&DeviceInterface::DirectIO>, 0, changing),
    SD_BUS_PROPERTY("Reference", "s", get_property<&DeviceInterface::Reference>, 0, changing),
    SD_BUS_PROPERTY("OwnerUID", "u", get_property<&DeviceInterface::OwnerUID>, 0, changing),
    SD_BUS_PROPERTY("Lease", "s", get_property<&DeviceInterface::Lease>, 0, changing),
    SD_BUS_PROPERTY("Partitions", "ao", get_property<&DeviceInterface::Partitions>, 0, changing),
    SD_BUS_PROPERTY("Symlinks", "as", get_property<&DeviceInterface::Symlinks>, 0, changing),
    SD_BUS_VTABLE_END,
};

}  // namespace loopd
