// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/file_birth.hpp"

#include <fcntl.h>
#include <sys/stat.h>

namespace loop {

int64_t birth_of_file(int fd) {
  struct statx facts {};
  const int r = ::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_BTIME, &facts);
  if (r < 0 || !S_ISREG(facts.stx_mode) || (facts.stx_mask & STATX_BTIME) == 0) return 0;
  return facts.stx_btime.tv_sec * 1'000'000'000 + facts.stx_btime.tv_nsec;
}

}  // namespace loop
