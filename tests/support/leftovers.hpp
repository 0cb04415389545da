// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <vector>

namespace loop::testing {

// Loop devices that tests left attached, each as "/dev/loop3 (/var/tmp/…)":
// their backing file lies in a TemporaryDirectory of this process, or of one
// that does not live any more. Tests that run beside this one are not looked at.
std::vector<std::string> leftover_devices();

// Registers a check for the end of all tests of this program: it fails if there
// are leftover devices that were not there when the tests began.
void check_leftovers_at_end();

// Removing deletes also the nodes that the machine has from the start: it gets
// them back at the end of all tests of this program.
void restore_static_devices_at_end();

}  // namespace loop::testing
