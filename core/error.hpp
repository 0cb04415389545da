// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <exception>
#include <string>

#include "export.hpp"

namespace loop {

// What went wrong, in terms a caller can act on. There is no "ok": a call that
// succeeds returns, a call that fails throws.
enum class Errc {
  invalid_argument,  // a value, path or descriptor that can never work
  not_supported,     // the kernel lacks what is needed
  not_writable,      // a writable device was asked for, the file does not allow it
  device_busy,       // somebody else uses the device or holds the number
  not_a_loop_device,
  not_attached,    // a loop device without a backing file
  overlap,         // the range is mapped already
  stale,           // the number names another attachment by now
  would_truncate,  // shrinking would cut a partition or file system
  no_free_device,
  file_not_found,
  timeout,  // the backing file's server does not answer
  limits_exceeded,
  failed,  // any other failure of the kernel
};

// The one exception of this library. `code` is for programs, `what()` for
// people: it names the culprit, and the errno in words where the kernel gave
// one. `error_number` is that errno, or 0.
class LOOPDEV_PUBLIC Error : public std::exception {
 public:
  Error(Errc code, std::string message);
  // ETIME makes it a timeout: a helper process did not answer.
  Error(Errc code, int error_number, const std::string& context);

  Errc code() const noexcept { return code_; }
  int error_number() const noexcept { return error_number_; }
  const char* what() const noexcept override;

 private:
  Errc code_;
  int error_number_ = 0;
  std::string message_;
};

// The errno in words; thread-safe.
LOOPDEV_PUBLIC std::string errno_text(int error_number);

}  // namespace loop
