// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <fcntl.h>
#include <poll.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/unique_fd.hpp"

namespace loop {

// A table of /proc that is asked for often and hardly ever changes (mountinfo, swaps): read
// again only when it has. /proc tells by poll, each open file of it once. Any thread.
template <typename Row>
class TableCache {
 public:
  using Rows = std::shared_ptr<const std::vector<Row>>;
  // Nothing: it could not be read.
  using Read = std::optional<std::vector<Row>> (*)(const std::string& path);

  explicit TableCache(Read read) : read_(read) {}

  // Empty where it cannot be read, which is tried again the next time. Never null.
  Rows rows(const std::string& path) {
    const std::lock_guard lock(mutex_);
    // The descriptor comes first, or is asked first: what changes after that is told later.
    if (!has_changed(path)) return known_;
    auto read = read_(path);
    if (!read) table_.reset();
    known_ = std::make_shared<const std::vector<Row>>(std::move(read).value_or(std::vector<Row>()));
    return known_;
  }

 private:
  bool has_changed(const std::string& path) {
    if (!table_ || path != path_) {
      path_ = path;
      table_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      return true;
    }
    pollfd changed{table_.get(), POLLPRI, 0};
    return ::poll(&changed, 1, 0) != 0;
  }

  Read read_;
  std::mutex mutex_;
  std::string path_;
  UniqueFd table_;
  Rows known_;
};

}  // namespace loop
