// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

namespace bus_test {

class ChildProcess;

// Registers what every program of tests on the real service has around all its
// tests: the scratch directory, a udevd, and the check that nothing is left.
void prepare_machine();

// The program's own udevd; null where the machine runs one.
ChildProcess* own_udevd();

}  // namespace bus_test
