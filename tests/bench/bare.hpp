// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the kernel costs alone: the ioctls in the order in which losetup makes them,
// and nothing around them.
#pragma once

#include <set>

namespace loopd_bench {

// All throw std::system_error.
unsigned bare_attach(int file);
void bare_detach(unsigned number);
void bare_delete_node(unsigned number);

// Deletes, at its end, the nodes that were made in its life and have no file attached. The kernel makes one
// for whoever asks for a number where none is free.
class NewNodes {
 public:
  NewNodes();
  NewNodes(const NewNodes&) = delete;
  NewNodes& operator=(const NewNodes&) = delete;
  ~NewNodes();

 private:
  std::set<unsigned> before_;
};

}  // namespace loopd_bench
