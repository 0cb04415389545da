// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/declared_device.hpp"

#include <fcntl.h>

#include <cerrno>
#include <functional>
#include <optional>

#include "core/error.hpp"
#include "core/examination.hpp"
#include "core/overlap.hpp"
#include "core/removal.hpp"

namespace loop {
namespace {

// Links are followed: a disk is named by one.
UniqueFd open_image(const std::string& path, bool read_only) {
  const int access = read_only ? O_RDONLY : O_RDWR;
  UniqueFd file(::open(path.c_str(), access | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file) return file;
  const int error = errno;
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      throw Error(Errc::file_not_found, error, path);
    case EROFS:
    case ETXTBSY:
    case EISDIR:
      throw Error(Errc::not_writable, error, path + ": cannot be written");
    default:
      throw Error(Errc::failed, error, "cannot open " + path);
  }
}

// Only what root attached: a user cannot take a name or a reference from the system.
std::optional<AttachmentRecord> find_attached(LoopManager& manager,
                                              const std::function<bool(const AttachmentRecord&)>& fits) {
  for (AttachmentRecord& record : manager.records()->all()) {
    if (record.owner == 0 && fits(record) &&
        is_attached(manager.kernel(), record.number, record.disk_sequence)) {
      return std::move(record);
    }
  }
  return std::nullopt;
}

std::optional<AttachmentRecord> find_declared(LoopManager& manager, const std::string& name) {
  return find_attached(manager, [&](const AttachmentRecord& record) { return record.declaration == name; });
}

// What differs from what is declared; empty: nothing.
std::string difference(const DeviceSnapshot& device, const AttachmentRecord& record,
                       const AttachRequest& request, const FileIdentity& file) {
  if (record.backing != file) return "another file, " + device.backing_file;
  if (record.reference != request.reference) return "another reference, '" + record.reference + "'";
  if (device.offset != request.offset) return "another offset, " + std::to_string(device.offset);
  if (device.size_limit != request.size_limit)
    return "another size-limit, " + std::to_string(device.size_limit);
  if (device.read_only != request.read_only) return device.read_only ? "read-only" : "writable";
  if (request.block_size != 0 && device.block_size != request.block_size) {
    return "another block-size, " + std::to_string(device.block_size);
  }
  if (record.keeps_partitions != (request.partition_scan == PartitionScan::service)) {
    return record.keeps_partitions ? "partition-scan" : "no partition-scan";
  }
  if (request.number && *request.number != device.number) return "another number";
  return {};
}

DeclaredDevice adopt(LoopManager& manager, const AttachmentRecord& record, const Declaration& declaration,
                     const AttachRequest& request, const FileIdentity& file) {
  auto snapshot = read_snapshot(manager.kernel(), record.number);
  if (!snapshot || snapshot->disk_sequence != record.disk_sequence) {
    throw Error(Errc::stale, declaration.name + ": was detached by somebody else just now");
  }
  if (const std::string what = difference(*snapshot, record, request, file); !what.empty()) {
    throw Error(Errc::device_busy, declaration.name + ": is attached already, as " + snapshot->dev_path() +
                                       ", with " + what + "; detach it first");
  }
  return {std::move(*snapshot), {}, true};
}

void check_reference_is_free(LoopManager& manager, const std::string& reference) {
  if (reference.empty()) return;
  const auto owner =
      find_attached(manager, [&](const AttachmentRecord& record) { return record.reference == reference; });
  if (!owner) return;
  throw Error(Errc::device_busy,
              "reference: '" + reference + "' is that of /dev/" + kernel_name(owner->number) + " already");
}

// Two writers of the same bytes spoil a file system. Devices whose file's server
// might not answer are not asked.
void check_overlap(LoopManager& manager, const AttachRequest& request, const FileIdentity& file) {
  LoopKernel& kernel = manager.kernel();
  const MappedRange range = range_of(request.offset, request.size_limit);
  for (const unsigned number : kernel.numbers()) {
    auto found = identify(kernel, number);
    if (!found || !found->served_locally || !examine(kernel, *found)) continue;
    if (!conflicts(found->snapshot, range, request.read_only)) continue;
    if (!describe(kernel, *found) || !maps_file(found->snapshot, file)) continue;
    const DeviceSnapshot& other = found->snapshot;
    throw Error(Errc::overlap, other.dev_path() + " maps " + range_of(other.offset, other.size_limit).text() +
                                   " of the file already");
  }
}

}  // namespace

std::string Declaration::reference() const {
  if (!options.reference.empty()) return options.reference;
  return name.starts_with('/') ? std::string() : name;
}

DeclaredDevice attach_declared(LoopManager& manager, const Declaration& declaration) {
  AttachRequest request = attach_request(declaration.options);
  request.reference = declaration.reference();
  request.terms.declaration = declaration.name;
  request.file = open_image(declaration.image, request.read_only);
  const FileIdentity file = manager.kernel().inspect_file(request.file.get()).identity;

  if (const auto record = find_declared(manager, declaration.name)) {
    return adopt(manager, *record, declaration, request, file);
  }
  check_reference_is_free(manager, request.reference);
  check_overlap(manager, request, file);
  Attachment attachment = manager.attach(request);
  if (attachment.snapshot().disk_sequence == 0) {
    throw Error(Errc::not_supported, "declared devices need Linux 5.15 or later (disk sequences)");
  }
  attachment.commit();
  return {attachment.snapshot(), attachment.partitions(), false};
}

bool detach_declared(LoopManager& manager, const std::string& name, std::chrono::milliseconds patience) {
  const auto record = find_declared(manager, name);
  if (!record) return false;
  remove(manager, record->number, record->disk_sequence, {}, patience);
  return true;
}

}  // namespace loop
