// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>

#include "tests/bus/machine.hpp"
#include "tests/soak/settings.hpp"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  soak::parse_settings(argc, argv);
  bus_test::prepare_machine();
  return RUN_ALL_TESTS();
}
