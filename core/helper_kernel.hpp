// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <chrono>
#include <memory>
#include <set>
#include <string>

#include "core/loop_kernel.hpp"
#include "core/unique_fd.hpp"

namespace loop {

// The seam to the kernel for one operation on a file whose file system may never
// answer: everything that may wait for its server is done by a helper process. A
// thread that waits there cannot be killed; in the service it would keep the dead
// process, its descriptors and so its bus name. A helper is left alone instead:
// when the server answers after all it finds that nobody waits, and undoes.
//
// A call that has no answer after `patience` is -ETIME, and so is every later one.
// One thread at a time.
class HelperKernel final : public LoopKernel {
 public:
  // Borrows the kernel that does what no file is needed for. Starts the program,
  // with its end of a socket as standard input. Throws Error failed.
  HelperKernel(LoopKernel& local, const std::string& program, std::chrono::milliseconds patience);

  // To a helper that serves the other end of this socket already.
  HelperKernel(LoopKernel& local, UniqueFd socket, std::chrono::milliseconds patience);
  ~HelperKernel() override;

  // Becomes readable when the helper has ended; to be taken by who counts them.
  UniqueFd take_process() { return std::move(process_); }

  int open_control(std::unique_ptr<LoopControl>& control) override { return local_.open_control(control); }
  int open_node(unsigned number, NodeAccess access, std::unique_ptr<LoopNode>& node) override;
  int watch_use(unsigned number, std::unique_ptr<UseWatch>& watch) override {
    return local_.watch_use(number, watch);
  }
  std::vector<unsigned> numbers() const override { return local_.numbers(); }
  std::optional<std::string> attribute(unsigned number, const char* name) const override {
    return local_.attribute(number, name);
  }
  bool has_attribute(unsigned number, const char* name) const override {
    return local_.has_attribute(number, name);
  }
  std::vector<PartitionExtent> partitions(unsigned number) const override {
    return local_.partitions(number);
  }
  std::set<unsigned> partitioned() const override { return local_.partitioned(); }
  std::pair<int, int> version() const override { return local_.version(); }
  unsigned static_devices() const override { return local_.static_devices(); }

  bool may_look_at_files() const override { return false; }
  BackingFile inspect_file(int fd) override;
  unsigned find_image_block_size(const AttachRequest& request, const BackingFile& file) override;
  ImageFacts probe_image_file(const AttachRequest& request) override;
  UniqueFd open_path(int root, const std::string& path, bool read_only) override;
  std::optional<BackingFile> find_file(const std::string& path) override;

 private:
  class Session;
  class Node;

  LoopKernel& local_;
  UniqueFd process_;
  std::shared_ptr<Session> session_;
};

}  // namespace loop
