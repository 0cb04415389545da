// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/image_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "core/image_probe.hpp"
#include "service/cli/verb.hpp"

namespace loopctl {

loop::UniqueFd open_image(const std::string& path, bool read_only) {
  // O_NONBLOCK: a pipe must not hang here, the service says what is wrong with it.
  const int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  loop::UniqueFd file(::open(path.c_str(), flags));
  if (file) return file;
  const int error = errno;
  const Failure failure(path, error);
  const bool writing_is_the_trouble = !read_only && (error == EACCES || error == EROFS || error == ETXTBSY);
  if (!writing_is_the_trouble ||
      !loop::UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY))) {
    throw failure;
  }
  throw Failure(path, "cannot be opened for writing; --read-only attaches it read-only", failure.exit_code);
}

void refuse_other_formats(const std::string& path, int file) {
  struct stat st {};
  if (::fstat(file, &st) < 0 || !S_ISREG(st.st_mode)) return;  // the service says what it thinks of it
  const std::string format = loop::image_format(file, static_cast<uint64_t>(st.st_size));
  if (format == "raw") return;
  throw Failure(path, "is a " + format +
                          " image, which a loop device cannot read; convert it, say with 'qemu-img convert " +
                          "-O raw', or attach it as it is with --raw");
}

}  // namespace loopctl
