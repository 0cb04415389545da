// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/visible_holders.hpp"

#include "core/holders.hpp"
#include "core/loop_kernel.hpp"

namespace loopctl {

std::vector<std::string> visible_holders(const Session& session, uint32_t number) {
  std::vector<std::string> texts;
  if (session.is_remote()) return texts;
  const auto kernel = loop::make_linux_loop_kernel();
  for (const loop::Holder& holder : loop::find_holders(*kernel, number)) {
    if (!holder.udev) texts.push_back(holder.text);
  }
  return texts;
}

}  // namespace loopctl
