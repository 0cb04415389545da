// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

#include "core/unique_fd.hpp"

namespace limits_test {

// So many read-only loop devices of one small file, attached as by losetup, by many threads at
// a time: a detach and the end of a node each wait for the kernel. Detached by the destructor.
class ManyDevices {
 public:
  // `image` is made there.
  ManyDevices(unsigned count, const std::string& image);
  ManyDevices(const ManyDevices&) = delete;
  ManyDevices& operator=(const ManyDevices&) = delete;
  ~ManyDevices();

  bool has(unsigned number) const { return number >= first_ && number < first_ + count_; }
  bool all_attached() const { return attached_; }

 private:
  loop::UniqueFd file_;
  unsigned first_;
  unsigned count_;
  bool attached_ = false;
};

}  // namespace limits_test
