// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/intent_check.hpp"

#include <fcntl.h>
#include <linux/loop.h>

#include <cstring>
#include <string>

#include "core/error.hpp"
#include "core/file_birth.hpp"
#include "core/host_root.hpp"
#include "core/loop_kernel.hpp"
#include "core/open_attachment.hpp"
#include "core/snapshot_reading.hpp"

namespace loop {
namespace {

// losetup, libmount and UDisks2 write the file's path there, which is never a reference.
bool has_reference(const loop_info64& info, const std::string& reference) {
  const auto* name = reinterpret_cast<const char*>(info.lo_file_name);
  return reference == std::string(name, ::strnlen(name, LO_NAME_SIZE));
}

// Only one that is where its path leads can be asked.
bool is_another_file_by_now(const LoopKernel& kernel, const AttachmentRecord& intent) {
  if (intent.backing_birth == 0 || !kernel.may_look_at_files()) return false;
  const auto path = kernel.attribute(intent.number, "loop/backing_file");
  const UniqueFd file = path ? open_on_host(*path, O_PATH | O_NOFOLLOW) : UniqueFd();
  if (!file || identify_file(file.get()) != intent.backing) return false;
  return birth_of_file(file.get()) != intent.backing_birth;
}

}  // namespace

bool is_of_intent(LoopKernel& kernel, const AttachmentRecord& intent, uint64_t disk_sequence) {
  loop_info64 info{};
  try {
    const auto node = open_attachment(kernel, intent.number, disk_sequence, NodeAccess::read_only, info);
    return backing_identity(info) == intent.backing && has_reference(info, intent.reference) &&
           !is_another_file_by_now(kernel, intent);
  } catch (const Error&) {
    return false;
  }
}

}  // namespace loop
