// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/loop_kernel.hpp"

#include <fcntl.h>

#include <cerrno>

#include "core/error.hpp"
#include "core/path_opener.hpp"

namespace loop {

BackingFile LoopKernel::inspect_file(int fd) { return inspect_backing_file(fd); }

unsigned LoopKernel::find_image_block_size(const AttachRequest& request, const BackingFile& file) {
  return find_block_size(request, file);
}

ImageFacts LoopKernel::probe_image_file(const AttachRequest& request) { return probe_image(request); }

UniqueFd LoopKernel::open_path(int root, const std::string& path, bool read_only) {
  UniqueFd copy(::fcntl(root, F_DUPFD_CLOEXEC, 0));
  if (!copy) throw Error(Errc::failed, errno, "cannot use the root directory");
  return PathOpener(std::move(copy)).open(path, read_only);
}

}  // namespace loop
