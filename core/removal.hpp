// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "core/device_name.hpp"
#include "core/loop_manager.hpp"
#include "core/node_deletion.hpp"
#include "core/removal_options.hpp"

namespace loop {

// Like probing_patience, on a busy machine, where nobody but udev can be seen to use it.
inline constexpr std::chrono::milliseconds longest_probing_patience{1000};

// How long an opener that came in the middle of the detach is waited for.
inline constexpr std::chrono::milliseconds finish_patience{10'000};

// One removal that is honest about a busy device: either the device is gone, or
// nothing has changed. LOOP_CLR_FD alone can't be: on a device that is open
// elsewhere it succeeds and arms AUTOCLEAR, and the device vanishes later.
//
// Driven step by step, so that an event loop can wait in between:
//
//     attempt() → detached: finish()
//                 deferred: done
//                 busy:     wait for wait_fd(), attempt() again; or
//                           give_way(), and then, as long as the caller is
//                           patient, wait for wait_fd() and attempt() again,
//                           or refuse()
//
// remove() below does just that. Every method may block in the kernel. One that
// throws, or that is destroyed halfway, takes back what it armed.
class Removal {
 public:
  enum class State {
    busy,      // somebody uses the device; nothing has changed for good
    detached,  // committed: finish() is to be called
    deferred,  // lazy: it goes with the last close, there is nothing left to do
  };

  // `disk_sequence` 0: whatever is attached to the number.
  Removal(LoopManager& manager, unsigned number, uint64_t disk_sequence, RemovalOptions options);
  Removal(const Removal&) = delete;
  Removal& operator=(const Removal&) = delete;
  ~Removal();

  // Throws Error not_attached, stale, failed.
  State attempt();

  // Readable when another attempt makes sense. -1 before the first.
  int wait_fd() const { return watch_ ? watch_->fd() : -1; }

  // Waits for that, at most until the deadline. False: that has passed.
  bool wait(Deadline deadline);

  // The device is in use by a mount or swap, which does not pass by itself.
  bool exclusively_held() const { return exclusively_held_; }

  // Takes everything back and closes the device: nothing is armed or open while
  // it is waited for. `detached` if the last holder let go at this very moment.
  State give_way();

  // Nobody holds it that would stay: nobody who can be seen, or udev alone. Looks
  // through /proc.
  bool may_pass() const;

  // Throws device_busy, naming who holds the device as far as can be seen.
  [[noreturn]] void refuse() const;

  // Deletes the partitions, lets go and deletes the node. Throws device_busy
  // where an opener keeps the node until the deadline.
  void finish(Deadline deadline);

 private:
  bool open();
  State attempt_once();
  State detach();
  void note_detaching(bool detaching);
  std::string name() const { return kernel_name(number_); }

  LoopManager& manager_;
  unsigned number_;
  uint64_t disk_sequence_;
  RemovalOptions options_;
  std::unique_ptr<LoopNode> node_;
  std::unique_ptr<UseWatch> watch_;  // none before it was found busy
  std::unique_ptr<struct SavedStatus> saved_;
  bool exclusively_held_ = false;
  bool armed_ = false;
};

// Removes a device, waiting at most `patience` for its users to go. Throws
// Error; device_busy means that nothing has changed.
void remove(LoopManager& manager, unsigned number, uint64_t disk_sequence = 0, RemovalOptions options = {},
            std::chrono::milliseconds patience = probing_patience);

}  // namespace loop
