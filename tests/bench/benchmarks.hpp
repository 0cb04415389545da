// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Everything that is measured, by subject. docs/benchmarks.md says what the names mean.
#pragma once

#include "tests/bench/stage.hpp"

namespace loopd_bench {

// One file to one device and back: the ioctls alone, loopd, UDisks2, the commands.
void add_attach_benchmarks(Stage& stage);

// Many at once: 16 clients that attach, 500 removals.
void add_bulk_benchmarks(Stage& stage);

// What is only asked.
void add_query_benchmarks(Stage& stage);

// From the kernel's event to the signal.
void add_event_benchmarks(Stage& stage);

// From a call on the bus to its answer, by a service that has to be started for it.
void add_start_benchmarks(Stage& stage);

// One who asks while others wait.
void add_stranger_benchmarks(Stage& stage);

// Memory and wake-ups. Of a service of its own.
void add_resident_benchmarks(Stage& stage);

}  // namespace loopd_bench
