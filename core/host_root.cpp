// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/host_root.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace loop {
namespace {

struct HostRoot {
  UniqueFd fd{::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  std::string mount_table = "/proc/self/mountinfo";
};

HostRoot& the_host() {
  static HostRoot host;
  return host;
}

}  // namespace

void use_host_root(UniqueFd root) {
  HostRoot& host = the_host();
  host.fd = std::move(root);
  // Of the first process there, by the host's own /proc: ProtectProc= hides it in
  // ours.
  const std::string table = "/proc/self/fd/" + std::to_string(host.fd.get()) + "/proc/1/mountinfo";
  if (::access(table.c_str(), R_OK) == 0) host.mount_table = table;
}

int host_root() { return the_host().fd.get(); }

UniqueFd open_on_host(const std::string& path, int flags) { return open_beneath(host_root(), path, flags); }

UniqueFd open_beneath(int root, const std::string& path, int flags, unsigned long long resolve) {
  open_how how{};
  how.flags = static_cast<__u64>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve;
  // EAGAIN also means that a rename raced with the look-up.
  constexpr int attempts = 32;
  const bool again = (resolve & RESOLVE_CACHED) == 0;
  for (int attempt = 0;; ++attempt) {
    // glibc has no wrapper.
    UniqueFd fd(static_cast<int>(::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
    const bool raced = !fd && (errno == EAGAIN || errno == EINTR);
    if (!raced || !again || attempt == attempts) return fd;
  }
}

std::string host_mount_table() { return the_host().mount_table; }

}  // namespace loop
