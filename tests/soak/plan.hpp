// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/types.h>

#include <string>

#include "tests/bus/bus_client.hpp"
#include "tests/soak/chance.hpp"
#include "tests/soak/stamped_image.hpp"

namespace soak {

enum class Ending {
  remove,
  remove_by_sequence,
  keep_node,
  lazy,
  lease,      // by leaving the bus
  autoclear,  // by the last close
  foreign,    // LOOP_CLR_FD by somebody else
};

// One life of a device, as a client wants it.
struct Plan {
  ImagePlan image;
  bool by_path = false;
  bool read_only = false;
  bool partition_scan = false;
  bool direct_io = false;
  unsigned block_size = 0;
  unsigned number = 0;  // 0: any
  std::string reference;
  Ending ending = Ending::remove;

  bus_test::Options options() const;
};

// `unique` belongs to this life alone: for a number, a reference.
Plan make_plan(Chance& chance, unsigned unique, bool service_may_die);

}  // namespace soak
