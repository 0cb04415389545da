// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/loop_kernel.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <fstream>

#include "core/error.hpp"
#include "core/host_root.hpp"
#include "core/path_opener.hpp"

namespace loop {

BackingFile LoopKernel::inspect_file(int fd) { return inspect_backing_file(fd); }

unsigned LoopKernel::find_image_block_size(const AttachRequest& request, const BackingFile& file) {
  return find_block_size(request, file);
}

ImageFacts LoopKernel::probe_image_file(const AttachRequest& request) { return probe_image(request); }

std::optional<BackingFile> LoopKernel::find_file(const std::string& path) {
  const UniqueFd file = open_on_host(path, O_PATH);
  struct stat st {};
  if (!file || ::fstat(file.get(), &st) < 0) return std::nullopt;
  if (S_ISREG(st.st_mode))
    return BackingFile{{false, st.st_dev, st.st_ino}, static_cast<uint64_t>(st.st_size)};
  if (!S_ISBLK(st.st_mode)) return std::nullopt;
  const std::string device = std::to_string(major(st.st_rdev)) + ":" + std::to_string(minor(st.st_rdev));
  uint64_t sectors = 0;
  if (!(std::ifstream("/sys/dev/block/" + device + "/size") >> sectors)) return std::nullopt;
  return BackingFile{{true, st.st_rdev, 0}, sectors * 512};
}

UniqueFd LoopKernel::open_path(int root, const std::string& path, bool read_only) {
  UniqueFd copy(::fcntl(root, F_DUPFD_CLOEXEC, 0));
  if (!copy) throw Error(Errc::failed, errno, "cannot use the root directory");
  return PathOpener(std::move(copy)).open(path, read_only);
}

}  // namespace loop
