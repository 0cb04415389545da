// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/remove_operations.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "dbus/backoff.hpp"
#include "dbus/errors.hpp"

namespace loopd {
namespace {

using namespace std::chrono_literals;

// A lease that could not be ended is tried again then; each time twice as late.
constexpr auto first_lease_delay = 5s;
constexpr auto longest_lease_delay = 300s;

// Between looks at what no descriptor is left to watch by.
constexpr auto unwatched_delay = 50ms;

}  // namespace

// Each watches a node, and the kernel gives the service 128 watches in all
// (fs.inotify.max_user_instances).
UserCounts::One RemoveOperations::wait_long(uid_t uid) {
  constexpr unsigned most = 16;
  if (uid != 0 && waiting_.of(uid) >= most) {
    throw_limits("user " + std::to_string(uid) + " has " + std::to_string(most) +
                 " removals already that wait for a device to be let go of");
  }
  return waiting_.add(uid);
}

Task<AfterRemoval> RemoveOperations::remove(Caller caller, Target target, Options options) {
  const RemoveOptions decoded = decode_remove_options(options);
  co_await context_.authorize_on_device(caller, "Remove", target);
  if (decoded.disk_sequence && *decoded.disk_sequence != target.disk_sequence) {
    throw loop::Error(loop::Errc::stale, "disk-sequence: " + loop::kernel_name(target.number) + " has " +
                                             std::to_string(target.disk_sequence) + ", not " +
                                             std::to_string(*decoded.disk_sequence));
  }
  context_.require_device(target);
  std::optional<UserCounts::One> waiting;
  if (decoded.timeout && *decoded.timeout > loop::longest_probing_patience) {
    waiting.emplace(wait_long(caller.uid));
  }
  AfterRemoval after = co_await remove_now(target, decoded, " for user " + std::to_string(caller.uid));
  co_return after;
}

Task<void> RemoveOperations::client_left(std::string clientele, std::string name) {
  std::vector<Target> ended;
  for (const auto& [target, terms] : leases()) {
    if (terms.lease == name && terms.lease_bus == clientele) ended.push_back(target);
  }
  co_await end_leases(std::move(ended));
}

Task<void> RemoveOperations::end_private_leases() {
  std::vector<Target> ended;
  for (const auto& [target, terms] : leases()) {
    if (is_private_name(terms.lease)) ended.push_back(target);
  }
  co_await end_leases(std::move(ended));
}

Task<void> RemoveOperations::check_leases(std::shared_ptr<ClientDirectory> bus) {
  std::vector<Target> ended;
  for (const auto& [target, terms] : leases()) {
    if (is_private_name(terms.lease)) continue;
    bool left = terms.lease_bus != bus->bus_id();
    if (!left) left = co_await bus->has_left(terms.lease);
    if (left) ended.push_back(target);
  }
  co_await end_leases(std::move(ended));
}

// Side by side: one whose file's server does not answer must not hold up the others.
Task<void> RemoveOperations::end_leases(std::vector<Target> targets) {
  std::vector<Task<void>> ends;
  for (const Target target : targets) ends.push_back(end_lease(target));
  co_await side_by_side(tasks_, std::move(ends));
}

std::map<Target, loop::AttachmentTerms> RemoveOperations::leases() const {
  std::map<Target, loop::AttachmentTerms> leased;
  for (const auto& [number, device] : context_.parts.registry.devices()) {
    if (device.terms.lease.empty()) continue;
    leased.emplace(Target{number, device.snapshot.disk_sequence}, device.terms);
  }
  return leased;
}

Task<void> RemoveOperations::end_lease(Target target) {
  const bool ended = co_await try_to_end_lease(target);
  if (!ended) tasks_.start(end_lease_later(target));
}

Task<bool> RemoveOperations::try_to_end_lease(Target target) {
  RemoveOptions lazily;
  lazily.removal.lazy = true;
  bool ended = true;
  try {
    co_await remove_now(target, lazily, " as its client has left");
  } catch (const loop::Error& error) {
    // Detached by somebody else: that is all that was promised.
    ended = error.code() == loop::Errc::not_attached || error.code() == loop::Errc::stale;
  } catch (const std::exception&) {
    ended = false;  // no room among the workers
  }
  co_return ended;
}

Task<void> RemoveOperations::end_lease_later(Target target) {
  Backoff delay(first_lease_delay, longest_lease_delay);
  for (bool ended = false; !ended;) {
    co_await pause(context_.parts.scheduler, Clock::now() + delay.next());
    ended = co_await try_to_end_lease(target);
  }
}

Task<std::shared_ptr<loop::Removal>> RemoveOperations::make_removal(Target target,
                                                                    loop::RemovalOptions options) {
  const Device* device = context_.parts.registry.find(target.number);
  const bool local = device == nullptr || device->terms.served_locally;
  // What a removal needs to go on for as long as anybody holds it.
  struct WithWay {
    std::unique_ptr<loop::KernelWay> way;
    loop::Removal removal;
  };
  const auto make = [&helpers = context_.parts.helpers, uid = device == nullptr ? 0 : device->terms.owner,
                     local, target, options] {
    auto way = helpers.way(local, uid);
    loop::LoopManager& loops = way->manager();
    const std::shared_ptr<WithWay> made(
        new WithWay{std::move(way), {loops, target.number, target.disk_sequence, options}});
    return std::shared_ptr<loop::Removal>(made, &made->removal);
  };
  if (local) co_return make();
  std::shared_ptr<loop::Removal> removal = co_await on_worker(context_.parts.scheduler, kernel_lane, make);
  co_return removal;
}

// Rounds of attempts, until the device is gone or the caller's patience is over.
// Between them nothing is armed, open or locked.
Task<AfterRemoval> RemoveOperations::remove_now(Target target, RemoveOptions options, std::string why) {
  const std::shared_ptr<loop::Removal> removal = co_await make_removal(target, options.removal);
  const auto may_pass = [removal] { return removal->may_pass(); };
  const auto last_probing = Clock::now() + loop::longest_probing_patience;
  auto deadline = Clock::now() + (options.timeout ? *options.timeout : std::chrono::microseconds(0));
  for (;;) {
    auto lock = co_await context_.numbers.acquire(target.number);
    AfterRemoval after(context_, target, std::move(lock));
    const loop::Removal::State state = co_await try_removal(removal, target);
    switch (state) {
      case loop::Removal::State::detached:
        context_.log_soon("removed " + loop::kernel_name(target.number) + why);
        after.gone = true;
        co_return after;
      case loop::Removal::State::deferred:
        context_.log_soon("detaching " + loop::kernel_name(target.number) + " at its last close" + why);
        defer_removal(target, options.removal.keep_node);
        co_return after;
      case loop::Removal::State::busy:
        break;
    }
    after.end();
    if (deadline < last_probing) {
      const bool passing = co_await on_worker(context_.parts.scheduler, kernel_lane, may_pass);
      if (passing) deadline = last_probing;
    }
    if (Clock::now() >= deadline) break;
    const bool woken = co_await wait_for_close(removal, deadline);
    if (!woken) break;
  }
  const auto refuse = [removal] { removal->refuse(); };
  co_await on_worker(context_.parts.scheduler, kernel_lane, refuse);
  co_return AfterRemoval();
}

// One round. `busy`: nothing has changed.
Task<loop::Removal::State> RemoveOperations::try_removal(std::shared_ptr<loop::Removal> removal,
                                                         Target target) {
  // What is detached is finished at once: every hand-over to a worker costs as much as the detach.
  const auto finished = [removal](loop::Removal::State state) {
    if (state == loop::Removal::State::detached) removal->finish(loop::deadline_in(loop::finish_patience));
    return state;
  };
  const auto attempt = [removal, finished] { return finished(removal->attempt()); };
  const auto give_way = [removal, finished] { return finished(removal->give_way()); };
  const std::string name = loop::kernel_name(target.number);
  const auto probing_deadline = Clock::now() + loop::probing_patience;
  auto state = loop::Removal::State::busy;
  // One that is not answered in time is abandoned, and takes back what it armed.
  for (;;) {
    state = co_await context_.on_patient_worker(kernel_lane, name, attempt);
    // udev looks at every device that somebody has closed; a mount or swap does
    // not pass by itself.
    if (state != loop::Removal::State::busy || removal->exclusively_held()) break;
    const bool woken = co_await wait_for_close(removal, probing_deadline);
    if (!woken) break;
  }
  if (state == loop::Removal::State::busy) {
    state = co_await context_.on_patient_worker(kernel_lane, name, give_way);
  }
  co_return state;
}

// Until somebody has let go of the device. False: not in time.
Task<bool> RemoveOperations::wait_for_close(std::shared_ptr<loop::Removal> removal,
                                            Clock::time_point deadline) {
  if (removal->wait_fd() >= 0) {
    const bool closed = co_await readable(context_.parts.scheduler, removal->wait_fd(), deadline);
    co_return closed;
  }
  const auto now = Clock::now();
  if (now >= deadline) co_return false;
  co_await pause(context_.parts.scheduler, std::min<Clock::time_point>(deadline, now + unwatched_delay));
  co_return true;
}

// The device goes with its last close, and then its node is to go, too.
void RemoveOperations::defer_removal(Target target, bool keep_node) {
  const Device* device = context_.parts.registry.find(target.number);
  if (device == nullptr || device->snapshot.disk_sequence != target.disk_sequence) return;
  loop::AttachmentTerms terms = device->terms;
  terms.delete_node = !keep_node;
  context_.note(*device, terms);
}

AfterRemoval::AfterRemoval(OperationContext& context, Target target, NumberLocks::Lock lock)
    : context_(&context),
      target_(target),
      lock_(std::move(lock)),
      claim_(context.parts.loops.claim(target.number)) {}

AfterRemoval::AfterRemoval(AfterRemoval&& other) noexcept
    : gone(other.gone),
      context_(std::exchange(other.context_, nullptr)),
      target_(other.target_),
      lock_(std::move(other.lock_)),
      claim_(std::move(other.claim_)) {}

void AfterRemoval::end() {
  OperationContext* context = std::exchange(context_, nullptr);
  if (context == nullptr) return;
  if (gone) context->parts.registry.withdraw(target_.number, target_.disk_sequence);
  claim_.release();
  context->parts.follower.look_again(target_.number);
  lock_.release();
}

}  // namespace loopd
