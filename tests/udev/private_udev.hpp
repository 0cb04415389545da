// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A systemd-udevd with our rules beside its own, which nobody but this program sees:
// /run and /dev/disk are its own, in the mount namespace that the scratch has made.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/attachment_records.hpp"
#include "core/loop_kernel.hpp"
#include "core/loop_manager.hpp"
#include "core/node_directory.hpp"
#include "tests/bus/child_process.hpp"
#include "tests/bus/scratch.hpp"

namespace udev_test {

class PrivateUdev {
 public:
  PrivateUdev();
  ~PrivateUdev();

 private:
  std::unique_ptr<bus_test::ChildProcess> process_;
};

// Returns when udev has done all that it knows of.
void settle();

// udev's links of a node, without "/dev/", sorted.
std::vector<std::string> links_of(const std::string& node);

// Where a link below /dev leads: "loop3"; empty where there is none.
std::string target_of(const std::string& link);

class UnderUdev : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // As the service does for this user, and waits for udev. The device goes with the
  // test.
  loop::DeviceSnapshot attach(const bus_test::ScratchFile& image, uid_t owner,
                              const std::string& reference = {}, bool partition_scan = false);
  void detach(const loop::DeviceSnapshot& device);

  std::unique_ptr<loop::LoopKernel> kernel_ =
      loop::make_linux_loop_kernel(loop::make_node_directory(loop::Nodes::as_needed));
  std::unique_ptr<loop::AttachmentRecords> records_;
  std::unique_ptr<loop::LoopManager> manager_;
};

// An ext4 file system in a file, or at an offset of one.
inline constexpr const char* file_system_uuid = "5d1c3a8e-6b1f-4a52-9c0e-7f2b8a4d9e01";
void make_file_system(const bus_test::ScratchFile& image, const std::string& label, uint64_t offset = 0,
                      uint64_t size = 0, const std::string& uuid = file_system_uuid);

}  // namespace udev_test
