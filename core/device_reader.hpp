// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/attachment_terms.hpp"
#include "core/backing_file_watch.hpp"
#include "core/examination.hpp"
#include "core/file_helpers.hpp"
#include "core/loop_manager.hpp"

namespace loop {

// What is to be seen of a device.
struct DeviceSight {
  Examination examination;
  AttachmentTerms terms;
  std::optional<std::vector<std::string>> symlinks;  // udev's; nothing where they were not asked for
  bool described = false;                            // by the device itself, too
  bool stale = false;                                // it was another attachment by then

  uint64_t disk_sequence() const { return examination.snapshot.disk_sequence; }
};

// How a device is looked at.
struct DeviceQuestion {
  unsigned number = 0;
  // The attachment whose terms are known, and those. Another one's are in its record, or nobody's.
  uint64_t known_sequence = 0;
  AttachmentTerms known_terms;
  // Also the device itself, where the kernel alone serves its file. Of these attachments not even then.
  bool ask_device = true;
  std::set<uint64_t> silent;
  // False: it is known to have none.
  bool may_have_partitions = true;
  // udev's links to a device; null where they are not wanted.
  std::function<std::vector<std::string>(unsigned number)> symlinks_of;
};

// Reads what devices are, by the way on which each can be asked. Callable from any thread; may block for as
// long as a backing file's server does. Borrows all.
class DeviceReader {
 public:
  DeviceReader(LoopManager& loops, FileHelpers& helpers, BackingFileWatch& backing_files)
      : loops_(loops), helpers_(helpers), backing_files_(backing_files) {}

  // Nothing: no file is attached. What only the device can tell is asked along with the rest where the kernel
  // alone serves its file: each way to a worker and back costs as much as the look. Throws Error.
  std::optional<DeviceSight> see(const DeviceQuestion& question) const;

  // Asks the device itself, in the helper where its file's server is no part of the kernel, and watches its
  // backing file. Throws Error.
  void describe(DeviceSight& sight) const;

 private:
  AttachmentTerms terms_of(const Examination& examination, const DeviceQuestion& question) const;

  LoopManager& loops_;
  FileHelpers& helpers_;
  BackingFileWatch& backing_files_;
};

}  // namespace loop
