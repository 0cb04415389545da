// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

namespace loop {

class LoopKernel;

// The host's root directory (host_root.hpp), which a helper has from its start
// beside the socket that is its standard input.
inline constexpr int helper_host_root_fd = 3;

// The file helper's side: carries out what comes over the socket, one request
// after another, until the other side hangs up. What was attached until then by
// nodes that were not closed is detached again: nobody waits for it any more.
void serve_helper(int socket, LoopKernel& kernel);

}  // namespace loop
