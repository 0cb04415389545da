// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/task_group.hpp"

namespace loopd {

void TaskGroup::start(Task<void> task) {
  if (closed_) return;
  const uint64_t id = next_id_++;
  const auto root = roots_.emplace(id, run(std::move(task), id)).first;
  root->second.resume();
}

TaskGroup::Root TaskGroup::run(Task<void> task, uint64_t id) {
  try {
    co_await task;
  } catch (...) {
    failed_(std::current_exception());
  }
  // Not destroyed from within itself.
  finished_.push_back(id);
  if (finished_.size() == 1) scheduler_.post([this] { reap(); });
}

void TaskGroup::reap() {
  for (const uint64_t id : std::exchange(finished_, {})) roots_.erase(id);
  if (roots_.empty() && on_empty_) on_empty_();
}

}  // namespace loopd
