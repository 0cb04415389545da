// SPDX-License-Identifier: LGPL-2.1-or-later
//
// /etc/looptab declares loop devices, a line for each, as crypttab declares
// encrypted ones:
//
//     NAME  IMAGE  OPTION,OPTION…
//
// This reads its text, and nothing else: looptab(5) says what it means.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/attach_request.hpp"

namespace loop {

inline constexpr const char* looptab_path = "/etc/looptab";

// Sizes are in bytes.
struct LoopTabOptions {
  bool read_only = false;
  uint64_t offset = 0;
  uint64_t size_limit = 0;        // 0: to the end of the file
  unsigned block_size = 0;        // 0: the kernel's choice
  bool probe_block_size = false;  // block-size=auto
  bool direct_io = false;
  bool partition_scan = false;
  std::string reference;           // empty: the name of the line
  std::optional<unsigned> number;  // this loopN and no other

  // What only the boot is interested in.
  bool nofail = false;
  bool noauto = false;
  bool netdev = false;            // the image is on the network
  bool attach_in_initrd = false;  // attached before the root file system is there, and kept to the end
  std::string device_timeout;     // a time span as systemd reads it; empty: systemd's default

  bool operator==(const LoopTabOptions&) const = default;
};

struct LoopTabEntry {
  unsigned line = 0;  // from 1
  std::string name;
  std::string image;         // absolute, unescaped, without "//", "." and ".."
  std::string options_text;  // as written; empty for none
  LoopTabOptions options;

  const std::string& reference() const { return options.reference.empty() ? name : options.reference; }

  // What udev makes of the reference: "/dev/disk/by-loop-ref/NAME".
  std::string link() const;

  bool operator==(const LoopTabEntry&) const = default;
};

enum class LoopTabProblem {
  missing_image,
  too_many_fields,
  invalid_name,
  duplicate_name,
  invalid_image,
  unknown_option,
  missing_value,
  unexpected_value,
  invalid_value,
  duplicate_reference,
  duplicate_number,
};

// Why a line is not used. The others are, whatever is wrong with this one.
struct LoopTabDiagnostic {
  unsigned line = 0;  // from 1
  LoopTabProblem problem = LoopTabProblem::missing_image;
  std::string text;  // for people, without the line's number
};

struct LoopTab {
  std::vector<LoopTabEntry> entries;           // in the order of the file
  std::vector<LoopTabDiagnostic> diagnostics;  // the same
};

// Any bytes will do. Never throws but for want of memory.
LoopTab parse_looptab(std::string_view text);

// The third field alone; empty, "-", "none" and "defaults" are no options. Throws
// Error invalid_argument, naming the option.
LoopTabOptions parse_looptab_options(std::string_view text);

// What to attach, but for the file.
AttachRequest attach_request(const LoopTabOptions& options);

}  // namespace loop
