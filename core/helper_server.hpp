// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

namespace loop {

class LoopKernel;

// The file helper's side: carries out what comes over the socket, one request
// after another, until the other side hangs up. What was attached until then by
// nodes that were not closed is detached again: nobody waits for it any more.
void serve_helper(int socket, LoopKernel& kernel);

}  // namespace loop
