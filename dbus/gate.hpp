// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <systemd/sd-bus.h>

#include <memory>

namespace loopd {

// Stands before every object of a connection: a call of a method that is not in
// the method table is answered UnknownMethod, one with an argument that can't be
// read, as a handle that names no descriptor of the message, InvalidArgs. Everything
// else passes.
class Gate {
 public:
  // `bus` must outlive it. Throws sdbus::Error.
  explicit Gate(sd_bus* bus);
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

 private:
  sd_bus_slot* slot_ = nullptr;
};

}  // namespace loopd
