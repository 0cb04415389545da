// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/file_devices.hpp"

#include <algorithm>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/overlap.hpp"
#include "dbus/errors.hpp"
#include "dbus/operation_context.hpp"

namespace loopd {
namespace {

// The same mapping, by the same user, that will be there for as long as anybody
// wants: what may end under its user is not shared.
bool is_shareable(const Device& device, const loop::AttachRequest& request, uid_t uid) {
  const loop::DeviceSnapshot& s = device.snapshot;
  const bool own = device.terms.owner == uid && uid != unmapped_uid;
  const bool same_block = request.block_size == 0 || request.block_size == s.block_size;
  const bool same_number = !request.number || *request.number == s.number;
  const bool fleeting = !device.terms.lease.empty() || s.autoclear || device.terms.autoclear_pending;
  return own && same_block && same_number && !fleeting && s.offset == request.offset &&
         s.size_limit == request.size_limit && s.read_only == request.read_only;
}

void refuse_other_wishes(const Device& device, const AttachOptions& options,
                         const loop::AttachRequest& request) {
  const loop::DeviceSnapshot& s = device.snapshot;
  const std::string could_be_reused = ": " + loop::kernel_name(s.number) + " could be reused, but ";
  if (!request.reference.empty() && request.reference != s.reference) {
    throw_invalid("reference" + could_be_reused + "its reference is '" + s.reference + "'");
  }
  if (options.direct_io_given && request.direct_io != s.direct_io) {
    throw_invalid("direct-io" + could_be_reused + "is the other way");
  }
  const bool scan = request.partition_scan != loop::PartitionScan::none;
  if (options.partition_scan_given && scan != device.terms.keeps_partitions) {
    throw_invalid("partition-scan" + could_be_reused + "is the other way");
  }
}

}  // namespace

FileDevices::FileDevices(const ObjectRegistry& registry, const loop::LoopKernel& kernel,
                         const loop::FileIdentity& file)
    : kernel_(kernel), devices_(registry.backed_by(file)) {
  std::sort(devices_.begin(), devices_.end(), [](const Device* a, const Device* b) {
    return a->snapshot.disk_sequence > b->snapshot.disk_sequence;
  });
}

std::vector<std::string> FileDevices::paths() const {
  std::vector<std::string> paths;
  for (const Device* device : devices_) {
    if (is_attached(kernel_, *device)) paths.push_back(device->path());
  }
  return paths;
}

std::vector<const Device*> FileDevices::conflicting(const loop::AttachRequest& request) const {
  std::vector<const Device*> found;
  const loop::MappedRange range = loop::range_of(request.offset, request.size_limit);
  std::copy_if(devices_.begin(), devices_.end(), std::back_inserter(found), [&](const Device* device) {
    return loop::conflicts(device->snapshot, range, request.read_only) && is_attached(kernel_, *device);
  });
  return found;
}

void FileDevices::refuse_conflict(const loop::AttachRequest& request) const {
  const std::vector<const Device*> overlaps = conflicting(request);
  if (overlaps.empty()) return;
  const loop::DeviceSnapshot& s = overlaps.front()->snapshot;
  throw loop::Error(loop::Errc::overlap, loop::range_of(request.offset, request.size_limit).text() +
                                             " of the file overlap " +
                                             loop::range_of(s.offset, s.size_limit).text() + ", which " +
                                             s.dev_path() + (s.read_only ? " maps read-only" : " maps") +
                                             "; allow-overlap attaches all the same");
}

const Device* FileDevices::reusable(const AttachOptions& options, const loop::AttachRequest& request,
                                    uid_t uid) const {
  for (const Device* device : devices_) {
    if (!is_shareable(*device, request, uid) || !is_attached(kernel_, *device)) continue;
    refuse_other_wishes(*device, options, request);
    return device;
  }
  return nullptr;
}

}  // namespace loopd
