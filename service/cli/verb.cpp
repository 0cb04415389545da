// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/verb.hpp"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <system_error>

#include "service/cli/text.hpp"

namespace loopctl {
namespace {

int exit_code_of(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return exit_not_found;
    case EACCES:
    case EPERM:
      return exit_denied;
    case EBUSY:
    case ETXTBSY:
      return exit_busy;
    default:
      return exit_failed;
  }
}

}  // namespace

Failure::Failure(const std::string& what, int error_number)
    : Failure(what, std::generic_category().message(error_number), exit_code_of(error_number)) {}

void Invocation::add_option(std::string_view name, std::optional<std::string> value) {
  given_.emplace_back(name);
  values_.push_back(std::move(value));
}

bool Invocation::has(std::string_view option) const {
  return std::find(given_.begin(), given_.end(), option) != given_.end();
}

std::optional<std::string> Invocation::value(std::string_view option) const {
  const auto last = std::find(given_.rbegin(), given_.rend(), option);
  if (last == given_.rend()) return std::nullopt;
  return values_[static_cast<size_t>(std::distance(last, given_.rend()) - 1)];
}

std::optional<bool> Invocation::truth(std::string_view option) const {
  if (!has(option)) return std::nullopt;
  const auto given = value(option);
  return !given || parse_truth("--" + std::string(option), *given);
}

std::vector<std::string> Invocation::names() const {
  std::vector<std::string> all = arguments_;
  all.insert(all.end(), command_.begin(), command_.end());
  return all;
}

}  // namespace loopctl
