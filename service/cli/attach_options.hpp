// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What attach and probe take: the long options are those on the bus, word by word.
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <array>
#include <map>
#include <string>

#include "service/cli/verb.hpp"

namespace loopctl {

using BusOptions = std::map<std::string, sdbus::Variant>;

inline constexpr std::array attach_options{
    Option{"read-only", 'r', nullptr, "Attach it read-only"},
    Option{"offset", 0, "SIZE", "First byte of FILE that is mapped"},
    Option{"size-limit", 0, "SIZE", "Most bytes that are mapped; 0: no limit"},
    Option{"block-size", 0, "SIZE", "Logical block size: 512 to 4096, a power of two"},
    Option{"block-size-auto", 0, nullptr, "The one that the image's GPT is made for"},
    Option{"autoclear", 0, "[=BOOL]", "Detach it when it is no longer used"},
    Option{"partition-scan", 'P', nullptr, "Make the partitions of its table, and wait for them"},
    Option{"direct-io", 0, "[=BOOL]", "Go past the page cache, where the file can"},
    Option{"reference", 0, "NAME", "Name it in /dev/disk/by-loop-ref"},
    Option{"number", 0, "N", "Take loopN and no other"},
    Option{"reuse", 0, nullptr, "Take the device that has it so already, if there is one"},
    Option{"allow-overlap", 0, nullptr, "Even where a writable device maps the same bytes"},
};

// Those that were given, for the bus. Throws UsageError.
BusOptions bus_options(const Invocation& invocation);

}  // namespace loopctl
