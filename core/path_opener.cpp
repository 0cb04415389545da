// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/path_opener.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/error.hpp"
#include "core/file_locality.hpp"
#include "core/host_root.hpp"
#include "core/utf8.hpp"

namespace loop {

namespace {

[[noreturn]] void throw_link(const std::string& shown) {
  throw Error(Errc::invalid_argument, "path: " + shown + " is a symbolic link, or leads through a magic one");
}

}  // namespace

PathOpener::PathOpener(UniqueFd root) : root_(std::move(root)) {
  if (!root_) {
    root_.reset(::fcntl(host_root(), F_DUPFD_CLOEXEC, 3));
  }
}

UniqueFd PathOpener::open_beneath(const std::string& path, int flags) const {
  const std::string shown = escape_to_utf8(path);
  if (path.empty() || path[0] != '/') {
    throw Error(Errc::invalid_argument, "path: '" + shown + "' is not absolute");
  }
  UniqueFd fd = loop::open_beneath(root_.get(), path, flags | O_NOFOLLOW);
  if (fd) return fd;
  const int error = errno;
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      throw Error(Errc::file_not_found, error, "path: " + shown);
    case ELOOP:
      throw_link(shown);
    case EISDIR:
      throw Error(Errc::invalid_argument, "path: " + shown + " is a directory");
    case ENAMETOOLONG:
      throw Error(Errc::invalid_argument, error, "path: " + shown.substr(0, 64) + "…");
    case EROFS:
    case ETXTBSY:
      throw Error(Errc::not_writable, error, "path: " + shown + " cannot be written, ask for read-only");
    default:
      throw Error(Errc::failed, error, "path: cannot open " + shown);
  }
}

UniqueFd PathOpener::open(const std::string& path, bool read_only) const {
  // Neither wait for a pipe's other end nor acquire a terminal.
  return open_beneath(path, (read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_NOCTTY);
}

bool PathOpener::is_served_locally(const std::string& path) const {
  const UniqueFd fd = loop::open_beneath(root_.get(), path, O_PATH | O_NOFOLLOW, RESOLVE_CACHED);
  return fd && loop::is_served_locally(fd.get());
}

UniqueFd PathOpener::look_up(const std::string& path) const {
  UniqueFd fd = open_beneath(path, O_PATH);
  struct stat st {};
  if (::fstat(fd.get(), &st) == 0 && S_ISLNK(st.st_mode)) {
    throw_link(escape_to_utf8(path));  // O_PATH opens the link itself
  }
  return fd;
}

}  // namespace loop
