// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/support/temporary_directory.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace loop::testing {

TemporaryDirectory::TemporaryDirectory() {
  // Not /tmp: it may be a tmpfs, which knows no direct I/O.
  const char* parent = std::getenv("LOOPD_TEST_DIR");
  path_ = std::string(parent ? parent : "/var/tmp") + "/loopd-test." + std::to_string(::getpid()) + ".XXXXXX";
  if (!::mkdtemp(path_.data())) {
    throw std::system_error(errno, std::generic_category(), path_);
  }
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

UniqueFd TemporaryDirectory::make_file(const std::string& name, uint64_t size) const {
  UniqueFd fd(::open(file(name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(size)) < 0) {
    throw std::system_error(errno, std::generic_category(), file(name));
  }
  return fd;
}

}  // namespace loop::testing
