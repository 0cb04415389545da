// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sys/inotify.h>
#include <unistd.h>

#include <array>

namespace loop {

// Calls `visit` with each event that has arrived on a descriptor that does not
// block. Internal to the library.
template <typename Visit>
void each_inotify_event(int inotify, Visit visit) {
  alignas(inotify_event) std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t got = ::read(inotify, buffer.data(), buffer.size());
    if (got <= 0) return;
    for (const char* at = buffer.data(); at < buffer.data() + got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      at += sizeof(inotify_event) + event->len;
      visit(*event);
    }
  }
}

}  // namespace loop
