// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A file system that answers, or does not, as a test wants: a process that speaks
// the kernel's protocol itself.
#pragma once

#include <memory>
#include <string>

#include "core/unique_fd.hpp"
#include "tests/bus/child_process.hpp"

namespace bus_test {

class FuseServer {
 public:
  // Mounted below the directory of the tests. Whatever file is asked for is there:
  // one MiB of zeros.
  explicit FuseServer(const std::string& name);
  FuseServer(const FuseServer&) = delete;
  FuseServer& operator=(const FuseServer&) = delete;
  ~FuseServer();

  const std::string& path() const { return path_; }
  loop::UniqueFd open(const std::string& name) const;

  // From now on nothing is answered but FLUSH: without that even dbus-daemon would
  // hang, which closes the descriptors that it has passed on.
  void hang();
  // Answers all that waits, and what comes.
  void go_on();
  void die();

  // Files that are opened from now on: the kernel asks for their attributes once.
  // It is their data then that hangs, in the middle of an attach.
  void let_attributes_be_remembered();

  // Requests that wait for an answer, now.
  unsigned waiting() const;

 private:
  void command(char what);
  int serve(int device, int commands);

  struct Shared;
  std::string path_;
  Shared* shared_ = nullptr;
  loop::UniqueFd commands_;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace bus_test
