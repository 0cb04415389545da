// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

#include "core/unique_fd.hpp"

namespace loop::testing {

// A directory of this test, deleted with all that is in it: loopd-test.PID.XXXXXX
// below $LOOPD_TEST_DIR, or /var/tmp. The process id in the name lets
// leftover_devices() tell this run's devices from those of a run beside it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  // Makes a sparse file of that size, open for reading and writing.
  UniqueFd make_file(const std::string& name, uint64_t size) const;

 private:
  std::string path_;
};

}  // namespace loop::testing
