// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>

#include "core/unique_fd.hpp"

namespace loop {

// The host, as its first process sees it. A hardened service lives in a mount
// namespace of its own, where paths may lead elsewhere (ProtectHome=), mounts have
// other ids, and a file that is opened keeps no file system of the host busy. With a
// descriptor of the host's root it looks there; without, at its own root.
//
// One for the process, like its root directory: to be set before there are threads.
void use_host_root(UniqueFd root);

// The descriptor of the root that paths are meant below. Borrowed.
int host_root();

// Opens an absolute path below that root, never outside it and through no magic
// link (/proc/PID/fd). None with errno on failure.
UniqueFd open_on_host(const std::string& path, int flags);

// The same below another root. `resolve`: further RESOLVE_ flags of openat2(2).
UniqueFd open_beneath(int root, const std::string& path, int flags, unsigned long long resolve = 0);

// The file that lists the host's mounts (mountinfo of proc(5)), readable and for
// poll.
std::string host_mount_table();

}  // namespace loop
