// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/snapshot_reading.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string_view>
#include <tuple>

#include "core/host_root.hpp"
#include "core/loop_kernel.hpp"
#include "core/utf8.hpp"

namespace loop {
namespace {

constexpr std::string_view deleted_suffix = " (deleted)";

uint64_t to_number(const std::optional<std::string>& text) {
  return text ? std::strtoull(text->c_str(), nullptr, 10) : 0;
}

bool to_flag(const std::optional<std::string>& text) { return text && *text == "1"; }

void set_backing_file(const std::optional<std::string>& path, DeviceSnapshot& snapshot) {
  snapshot.backing_file = path.value_or("");
  snapshot.backing_file_deleted = snapshot.backing_file.ends_with(deleted_suffix);
  if (snapshot.backing_file_deleted) {
    snapshot.backing_file.resize(snapshot.backing_file.size() - deleted_suffix.size());
  }
}

// The kernel packs device numbers into loop_info64 in the layout of glibc's dev_t.
// Nothing: it is not that file.
std::optional<uint64_t> size_of(int file, const FileIdentity& identity) {
  struct stat st {};
  if (file < 0 || ::fstat(file, &st) < 0 || !S_ISREG(st.st_mode)) return std::nullopt;
  if (identity.block_device || st.st_ino != identity.inode || st.st_dev != identity.dev) return std::nullopt;
  return static_cast<uint64_t>(st.st_size);
}

auto volatile_parts(auto& snapshot) {
  return std::tie(snapshot.backing_file, snapshot.backing_file_deleted, snapshot.autoclear,
                  snapshot.direct_io, snapshot.block_size);
}

bool read_volatile(const LoopKernel& kernel, DeviceSnapshot& snapshot, Volatile what) {
  const unsigned number = snapshot.number;
  const auto wanted = [what](Volatile fact) { return what == Volatile::all || what == fact; };
  if (wanted(Volatile::backing_file) && !read_backing_file(kernel, snapshot)) return false;
  if (wanted(Volatile::autoclear)) snapshot.autoclear = to_flag(kernel.attribute(number, "loop/autoclear"));
  if (wanted(Volatile::direct_io)) snapshot.direct_io = to_flag(kernel.attribute(number, "loop/dio"));
  if (wanted(Volatile::block_size)) {
    snapshot.block_size =
        static_cast<unsigned>(to_number(kernel.attribute(number, "queue/logical_block_size")));
  }
  return true;
}

}  // namespace

dev_t parse_device_number(const std::string& text) {
  const auto colon = text.find(':');
  if (colon == std::string::npos) return 0;
  return makedev(static_cast<unsigned>(std::strtoul(text.c_str(), nullptr, 10)),
                 static_cast<unsigned>(std::strtoul(text.c_str() + colon + 1, nullptr, 10)));
}

bool is_attached(const LoopKernel& kernel, unsigned number, uint64_t disk_sequence) {
  const auto attached = attached_sequence(kernel, number);
  return attached && (*attached == disk_sequence || *attached == 0);
}

std::optional<uint64_t> attached_sequence(const LoopKernel& kernel, unsigned number) {
  if (!kernel.has_attribute(number, "loop")) return std::nullopt;
  return to_number(kernel.attribute(number, "diskseq"));
}

std::optional<DeviceSnapshot> read_snapshot(const LoopKernel& kernel, unsigned number) {
  // Attributes are read one by one: only if the sequence is the same before and
  // after do they speak of one attachment. Who is detached and attached faster
  // than this reads sends another event.
  constexpr int attempts = 4;
  std::optional<DeviceSnapshot> snapshot;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    snapshot = read_identity(kernel, number);
    if (!snapshot || read_settings(kernel, *snapshot)) break;
  }
  return snapshot;
}

std::optional<DeviceSnapshot> read_identity(const LoopKernel& kernel, unsigned number) {
  // Most looks at a number are after it was detached.
  const auto sequence = attached_sequence(kernel, number);
  if (!sequence) return std::nullopt;
  DeviceSnapshot snapshot;
  snapshot.number = number;
  snapshot.disk_sequence = *sequence;
  if (!read_backing_file(kernel, snapshot)) return std::nullopt;
  return snapshot;
}

bool read_settings(const LoopKernel& kernel, DeviceSnapshot& snapshot) {
  const unsigned number = snapshot.number;
  snapshot.dev = parse_device_number(kernel.attribute(number, "dev").value_or(""));
  snapshot.size = to_number(kernel.attribute(number, "size")) * sysfs_sector;
  snapshot.offset = to_number(kernel.attribute(number, "loop/offset"));
  snapshot.size_limit = to_number(kernel.attribute(number, "loop/sizelimit"));
  snapshot.read_only = to_flag(kernel.attribute(number, "ro"));
  snapshot.kernel_partition_scan = to_flag(kernel.attribute(number, "loop/partscan"));
  for (const Volatile what : {Volatile::autoclear, Volatile::direct_io, Volatile::block_size}) {
    read_volatile(kernel, snapshot, what);
  }
  return to_number(kernel.attribute(number, "diskseq")) == snapshot.disk_sequence;
}

bool read_backing_file(const LoopKernel& kernel, DeviceSnapshot& snapshot) {
  const unsigned number = snapshot.number;
  const auto path = kernel.attribute(number, "loop/backing_file");
  if (!path && !kernel.has_attribute(number, "loop")) return false;
  // A file whose name itself ends in " (deleted)" was told apart by apply_status();
  // don't forget that as long as the kernel reports the same path.
  const bool known =
      path && snapshot.identified && !snapshot.backing_file_deleted && *path == snapshot.backing_file;
  if (!known) set_backing_file(path, snapshot);
  return true;
}

bool refresh_volatile(const LoopKernel& kernel, DeviceSnapshot& snapshot, Volatile what) {
  const DeviceSnapshot before = snapshot;
  if (what != Volatile::all && what != Volatile::backing_file &&
      !kernel.has_attribute(snapshot.number, "loop")) {
    return false;
  }
  if (!read_volatile(kernel, snapshot, what)) return false;
  // What is as it was may be told, whose ever it is by now. Afterwards: it is that attachment's, then.
  return snapshot.disk_sequence == 0 || volatile_parts(snapshot) == volatile_parts(before) ||
         to_number(kernel.attribute(snapshot.number, "diskseq")) == snapshot.disk_sequence;
}

bool copy_volatile(const DeviceSnapshot& from, DeviceSnapshot& to) {
  if (volatile_parts(from) == volatile_parts(to)) return false;
  volatile_parts(to) = volatile_parts(from);
  return true;
}

FileIdentity backing_identity(const loop_info64& info) {
  // For a regular file there is none, or (older kernels) the file system's again.
  const bool block_device = info.lo_rdevice != 0 && info.lo_rdevice != info.lo_device;
  return block_device ? FileIdentity{true, info.lo_rdevice, 0}
                      : FileIdentity{false, info.lo_device, info.lo_inode};
}

void apply_status(const loop_info64& info, DeviceSnapshot& snapshot) {
  snapshot.identified = true;
  snapshot.backing = backing_identity(info);
  snapshot.offset = info.lo_offset;
  snapshot.size_limit = info.lo_sizelimit;
  snapshot.read_only = (info.lo_flags & LO_FLAGS_READ_ONLY) != 0;
  snapshot.autoclear = (info.lo_flags & LO_FLAGS_AUTOCLEAR) != 0;
  snapshot.kernel_partition_scan = (info.lo_flags & LO_FLAGS_PARTSCAN) != 0;
  snapshot.direct_io = (info.lo_flags & LO_FLAGS_DIRECT_IO) != 0;

  const auto* name = reinterpret_cast<const char*>(info.lo_file_name);
  std::string reference(name, ::strnlen(name, LO_NAME_SIZE));
  // losetup writes the path there; a path is no reference.
  snapshot.reference = reference.find('/') == std::string::npos ? escape_to_utf8(reference) : "";
}

void look_at_backing_file(DeviceSnapshot& snapshot, const std::function<void(int file)>& watch) {
  std::string path = snapshot.backing_file;
  if (snapshot.backing_file_deleted) path += deleted_suffix;
  const UniqueFd opened = path.empty() ? UniqueFd() : open_on_host(path, O_PATH | O_NOFOLLOW);
  const int file = size_of(opened.get(), snapshot.backing) ? opened.get() : -1;
  if (watch) watch(file);
  snapshot.backing_size = size_of(file, snapshot.backing).value_or(0);
  if (file >= 0 && snapshot.backing_file_deleted) {
    // Its name ends like that, and it is there.
    snapshot.backing_file = std::move(path);
    snapshot.backing_file_deleted = false;
  }
}

}  // namespace loop
