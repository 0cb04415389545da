// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the tests put on the machine: a directory of image files, mounts in a
// mount namespace of this program, loop devices. All of it goes at the end, also
// of an end by SIGKILL: a process that waits for ours to end sees to that.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/unique_fd.hpp"

namespace bus_test {

inline constexpr uint64_t KiB = 1024;
inline constexpr uint64_t MiB = 1024 * KiB;

// Makes the directory, the mount namespace and the process. Once, first of all.
void set_up_scratch();

// Ends it all; returns what was left attached.
std::vector<std::string> tear_down_scratch();

// loopd-test.PID.XXXXXX; everybody may enter it.
const std::string& scratch_directory();

// In it, on a tmpfs, as a system's /run is. Stays mounted until the end.
std::string run_directory();

// Detaches what is backed by files in our directory, and unmounts. Returns what it
// found: "loop3 (/var/tmp/…)".
std::vector<std::string> sweep_scratch();

// A file in the directory; unlinked by the destructor. Open for reading and writing.
class ScratchFile {
 public:
  explicit ScratchFile(uint64_t size, const std::string& name = {});
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  ~ScratchFile();

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  struct stat status() const;

  loop::UniqueFd open(int flags) const;
  void resize(uint64_t size) const;
  void write(uint64_t offset, const std::string& bytes) const;
  std::string read(uint64_t offset, size_t length) const;

 private:
  std::string path_;
  loop::UniqueFd fd_;
};

// A file that no path names in a page, many directories down.
class DeepFile {
 public:
  explicit DeepFile(uint64_t size);
  ~DeepFile();
  int fd() const { return fd_.get(); }

 private:
  loop::UniqueFd fd_;
};

// Images with a partition table, written by sfdisk.
inline constexpr const char* gpt_with_five_partitions =
    "label: gpt\n"
    "start=1MiB, size=1MiB, uuid=11111111-1111-4111-8111-111111111111, name=first\n"
    "start=2MiB, size=2MiB, uuid=22222222-2222-4222-8222-222222222222, name=\"second one\"\n"
    "start=4MiB, size=1MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, "
    "uuid=33333333-3333-4333-8333-333333333333\n"
    "start=5MiB, size=1MiB, uuid=44444444-4444-4444-8444-444444444444\n"
    "start=6MiB, size=1MiB, uuid=55555555-5555-4555-8555-555555555555, name=last\n";
inline constexpr const char* mbr_with_logicals =
    "label: dos\n"
    "label-id: 0xcafe0001\n"
    "1: start=1MiB, size=1MiB, type=83\n"
    "2: start=3MiB, size=1MiB, type=c\n"
    "4: start=5MiB, size=10MiB, type=5\n"
    "5: start=6MiB, size=1MiB, type=83\n"
    "6: start=8MiB, size=1MiB, type=82\n";
void partition(const ScratchFile& file, const char* table);

// A directory to mount on; unmounts.
class MountPoint {
 public:
  explicit MountPoint(const std::string& name);
  ~MountPoint();
  const std::string& path() const { return path_; }
  // True if it worked.
  bool mount(const std::string& device, const char* type = "ext4") const;
  bool unmount() const;

 private:
  std::string path_;
};

// One attribute of sysfs, without the newline behind it.
std::optional<std::string> sysfs(unsigned number, const std::string& attribute);
bool is_attached(unsigned number);
bool node_exists(unsigned number, unsigned partition = 0);
std::vector<unsigned> sysfs_partitions(unsigned number);

// By hand, as a program would that knows nothing of the service: 0 or errno.
// Detaching waits until the last who looks at the device has let go.
int kernel_detach(unsigned number);
int kernel_attach(unsigned number, int file);
int kernel_add_partition(unsigned number, unsigned partition, uint64_t offset, uint64_t size);

}  // namespace bus_test
