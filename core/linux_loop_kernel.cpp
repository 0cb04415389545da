// SPDX-License-Identifier: LGPL-2.1-or-later
#include <dirent.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <utility>

#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/loop_kernel.hpp"
#include "core/mount_changes.hpp"
#include "core/node_directory.hpp"
#include "core/unique_fd.hpp"

// Since 5.15; Debian 12's headers have it, older ones may not.
#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, __u64)
#endif

namespace loop {
namespace {

int result_of(int returned) { return returned < 0 ? -errno : returned; }

class LinuxLoopNode final : public LoopNode {
 public:
  // `watched`: open for reading, of the node in /dev, where `fd` is of another one.
  LinuxLoopNode(UniqueFd fd, dev_t device_number, UniqueFd watched = {})
      : fd_(std::move(fd)), watched_(std::move(watched)), device_number_(device_number) {}

  int fd() const override { return fd_.get(); }
  dev_t device_number() const override { return device_number_; }
  int try_lock() override {
    return result_of(::flock(watched_ ? watched_.get() : fd_.get(), LOCK_EX | LOCK_NB));
  }
  void unlock() override {
    // Not by the close alone: a helper that is just being started has copies of all descriptors.
    if (watched_) {
      ::flock(watched_.get(), LOCK_UN);
      return watched_.reset();
    }
    if ((::fcntl(fd_.get(), F_GETFL) & O_ACCMODE) == O_RDWR) {
      const std::string itself = "/proc/self/fd/" + std::to_string(fd_.get());
      UniqueFd reading(::open(itself.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
      if (reading) fd_ = std::move(reading);
    }
    ::flock(fd_.get(), LOCK_UN);  // of the former where that did not work
  }
  int configure(const loop_config& config) override {
    return result_of(::ioctl(fd_.get(), LOOP_CONFIGURE, &config));
  }
  int status(loop_info64& info) const override {
    return result_of(::ioctl(fd_.get(), LOOP_GET_STATUS64, &info));
  }
  int set_status(const loop_info64& info) override {
    return result_of(::ioctl(fd_.get(), LOOP_SET_STATUS64, &info));
  }
  int clear() override {
    // With two openers it would only arm autoclear, and it needs no writing.
    if (watched_) fd_ = std::move(watched_);
    return result_of(::ioctl(fd_.get(), LOOP_CLR_FD, 0));
  }
  int write_back() override {
    constexpr unsigned all_of_it =
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    return result_of(::sync_file_range(fd_.get(), 0, 0, all_of_it));
  }
  int drop_cache() override { return result_of(::ioctl(fd_.get(), BLKFLSBUF, 0)); }
  int set_capacity() override { return result_of(::ioctl(fd_.get(), LOOP_SET_CAPACITY, 0)); }
  int set_direct_io(bool enable) override {
    return result_of(::ioctl(fd_.get(), LOOP_SET_DIRECT_IO, enable ? 1UL : 0UL));
  }
  int size(uint64_t& bytes) const override { return result_of(::ioctl(fd_.get(), BLKGETSIZE64, &bytes)); }
  int block_size(unsigned& bytes) const override {
    int value = 0;
    const int r = result_of(::ioctl(fd_.get(), BLKSSZGET, &value));
    bytes = static_cast<unsigned>(value);
    return r;
  }
  int disk_sequence(uint64_t& sequence) const override {
    __u64 value = 0;
    const int r = result_of(::ioctl(fd_.get(), BLKGETDISKSEQ, &value));
    sequence = value;
    return r;
  }
  int add_partition(const PartitionExtent& extent) override {
    return partition_call(BLKPG_ADD_PARTITION, extent);
  }
  int delete_partition(unsigned number) override {
    return partition_call(BLKPG_DEL_PARTITION, {number, 0, 0});
  }

 private:
  int partition_call(int operation, const PartitionExtent& extent) {
    blkpg_partition partition{};
    partition.pno = static_cast<int>(extent.number);
    partition.start = static_cast<long long>(extent.offset);
    partition.length = static_cast<long long>(extent.size);
    blkpg_ioctl_arg argument{};
    argument.op = operation;
    argument.datalen = sizeof partition;
    argument.data = &partition;
    return result_of(::ioctl(fd_.get(), BLKPG, &argument));
  }

  UniqueFd fd_;
  UniqueFd watched_;
  dev_t device_number_;
};

class LinuxLoopControl final : public LoopControl {
 public:
  explicit LinuxLoopControl(UniqueFd fd) : fd_(std::move(fd)) {}

  int try_lock() override { return result_of(::flock(fd_.get(), LOCK_EX | LOCK_NB)); }
  void unlock() override { ::flock(fd_.get(), LOCK_UN); }
  int get_free() override { return result_of(::ioctl(fd_.get(), LOOP_CTL_GET_FREE)); }
  int add(int number) override { return result_of(::ioctl(fd_.get(), LOOP_CTL_ADD, number)); }
  int remove(unsigned number) override { return result_of(::ioctl(fd_.get(), LOOP_CTL_REMOVE, number)); }

 private:
  UniqueFd fd_;
};

// An event comes before the kernel has let go: IN_CLOSE before the release of the
// device, the mount table's before the file system has written back its last.
// When that is done, nothing tells. So after each event it wakes up again, at
// first soon, then after ever longer times: the end of a use is seen after at
// most twice the time that it took.
class LinuxUseWatch final : public UseWatch {
 public:
  LinuxUseWatch()
      : inotify_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)),
        timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

  int add_node(const std::string& path) {
    return result_of(::inotify_add_watch(inotify_.get(), path.c_str(), IN_CLOSE));
  }
  int arm() {
    if (!inotify_ || !timer_ || !epoll_) return -errno;
    for (const int watched : {inotify_.get(), mounts_.fd(), timer_.get()}) {
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.fd = watched;
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, watched, &event) < 0) return -errno;
    }
    look_again_in(first_look);  // the last event may have been just before the watch
    return 0;
  }
  int fd() const override { return epoll_.get(); }
  void drain() override {
    std::array<epoll_event, 3> ready;
    const int count = ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), 0);
    const auto end = ready.begin() + std::max(count, 0);
    const bool event = std::any_of(ready.begin(), end,
                                   [this](const epoll_event& one) { return one.data.fd != timer_.get(); });
    alignas(inotify_event) std::array<char, 4096> events;
    while (::read(inotify_.get(), events.data(), events.size()) > 0) {
    }
    mounts_.drain();
    if (event) {
      look_again_in(first_look);
    } else if (count > 0) {
      look_again_in(std::min(2 * next_look_, longest_look));
    }
  }

 private:
  static constexpr std::chrono::milliseconds first_look{1};
  static constexpr std::chrono::milliseconds longest_look{10'000};

  // Also ends the timer's being readable.
  void look_again_in(std::chrono::milliseconds time) {
    next_look_ = time;
    itimerspec when{};
    when.it_value.tv_sec = time.count() / 1000;
    when.it_value.tv_nsec = time.count() % 1000 * 1'000'000;
    ::timerfd_settime(timer_.get(), 0, &when, nullptr);
  }

  UniqueFd inotify_;
  MountChanges mounts_;
  UniqueFd timer_;
  UniqueFd epoll_;
  std::chrono::milliseconds next_look_ = first_look;
};

// Who could not look, for want of a descriptor or memory say, must not take that for an
// answer. Other errors are answers: what is not there, a path that is longer than a page.
void refuse_to_guess(int error, const std::string& path) {
  if (error == EMFILE || error == ENFILE || error == ENOMEM || error == EIO || error == EINTR) {
    throw Error(Errc::failed, error, "cannot look at " + path);
  }
}

// Reads a whole sysfs attribute: sysfs gives at most a page, and all of it by one read.
std::optional<std::string> read_attribute(int directory, const std::string& path) {
  UniqueFd fd(::openat(directory, path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    refuse_to_guess(errno, path);
    return std::nullopt;
  }
  thread_local std::vector<char> page(static_cast<size_t>(::sysconf(_SC_PAGESIZE)));
  ssize_t got = 0;
  do {
    got = ::read(fd.get(), page.data(), page.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    refuse_to_guess(errno, path);
    return std::nullopt;
  }
  std::string content(page.data(), static_cast<size_t>(got));
  if (!content.empty() && content.back() == '\n') {
    content.pop_back();  // exactly one: a path may end in a newline of its own
  }
  return content;
}

// "loop12" → 12; nothing for other names.
std::optional<unsigned> number_in(const char* name) {
  if (std::strncmp(name, "loop", 4) != 0 || name[4] < '0' || name[4] > '9') return std::nullopt;
  char* end = nullptr;
  const unsigned long number = std::strtoul(name + 4, &end, 10);
  if (*end != '\0') return std::nullopt;
  return static_cast<unsigned>(number);
}

template <typename Visit>
void each_entry(const std::string& directory, Visit visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(directory.c_str()), ::closedir);
  if (!dir) return refuse_to_guess(errno, directory);
  while (const dirent* entry = ::readdir(dir.get())) {
    visit(entry->d_name);
  }
}

class LinuxLoopKernel final : public LoopKernel {
 public:
  LinuxLoopKernel(std::string dev, std::string sys, UniqueFd nodes)
      : dev_(std::move(dev)), sys_(std::move(sys)), nodes_(std::move(nodes)) {
    // Where /sys/block's links lead, without following one for each attribute. Not the directory "block"
    // itself: that goes with the last device and comes anew with the next one, and a descriptor of it would
    // see nothing any more.
    constexpr int flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    for (const char* path : {"/devices/virtual", ""}) {
      if (parent_) break;
      devices_path_ = sys_ + path + "/block";
      parent_.reset(::open((sys_ + path).c_str(), flags));
    }
  }

  int open_control(std::unique_ptr<LoopControl>& control) override {
    UniqueFd fd(::open((dev_ + "/loop-control").c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) return -errno;
    control = std::make_unique<LinuxLoopControl>(std::move(fd));
    return 0;
  }

  int open_node(unsigned number, NodeAccess access, std::unique_ptr<LoopNode>& node) override {
    if (access == NodeAccess::configure && nodes_ && tells_of_configuring()) {
      if (open_unwatched_node(number, node) == 0) return 0;
    }
    int flags = O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW;
    switch (access) {
      case NodeAccess::configure:
      case NodeAccess::read_write:
        flags |= O_RDWR;
        break;
      case NodeAccess::read_only:
        flags |= O_RDONLY;
        break;
      case NodeAccess::read_exclusive:
        flags |= O_RDONLY | O_EXCL;
        break;
    }
    UniqueFd fd;
    dev_t device = 0;
    if (const int r = open_in_dev(number, flags, fd, device); r < 0) return r;
    node = std::make_unique<LinuxLoopNode>(std::move(fd), device);
    return 0;
  }

  int watch_use(unsigned number, std::unique_ptr<UseWatch>& watch) override {
    auto made = std::make_unique<LinuxUseWatch>();
    if (const int r = made->arm(); r < 0) return r;
    if (const int r = made->add_node(node_path(number)); r < 0) return r;
    for (const PartitionExtent& partition : partitions(number)) {
      // One that is just going away has no closes to wait for.
      made->add_node(node_path(number) + "p" + std::to_string(partition.number));
    }
    watch = std::move(made);
    return 0;
  }

  std::vector<unsigned> numbers() const override {
    std::vector<unsigned> found;
    each_entry(devices_path_, [&](const char* name) {
      if (const auto number = number_in(name)) found.push_back(*number);
    });
    return found;
  }

  std::optional<std::string> attribute(unsigned number, const char* name) const override {
    return read_attribute(parent_.get(), below_parent(number) + name);
  }

  bool has_attribute(unsigned number, const char* name) const override {
    return ::faccessat(parent_.get(), (below_parent(number) + name).c_str(), F_OK, 0) == 0;
  }

  std::vector<PartitionExtent> partitions(unsigned number) const override {
    std::vector<PartitionExtent> found;
    const std::string prefix = kernel_name(number) + "p";
    each_entry(devices_path_ + "/" + kernel_name(number), [&](const char* name) {
      if (std::strncmp(name, prefix.c_str(), prefix.size()) != 0) return;
      const std::string partition = below_parent(number) + name + "/";
      const auto index = read_attribute(parent_.get(), partition + "partition");
      const auto start = read_attribute(parent_.get(), partition + "start");
      const auto size = read_attribute(parent_.get(), partition + "size");
      if (!index || !start || !size) return;  // it is just going away
      found.push_back({static_cast<unsigned>(std::strtoul(index->c_str(), nullptr, 10)),
                       std::strtoull(start->c_str(), nullptr, 10) * sysfs_sector,
                       std::strtoull(size->c_str(), nullptr, 10) * sysfs_sector});
    });
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.number < b.number; });
    return found;
  }

  std::set<unsigned> partitioned() const override {
    std::set<unsigned> found;
    each_entry(sys_ + "/class/block", [&](const char* name) {
      unsigned number = 0;
      unsigned partition = 0;
      if (std::sscanf(name, "loop%up%u", &number, &partition) == 2) found.insert(number);
    });
    return found;
  }

  std::pair<int, int> version() const override {
    utsname name{};
    int major_version = 0;
    int minor_version = 0;
    ::uname(&name);
    std::sscanf(name.release, "%d.%d", &major_version, &minor_version);
    return {major_version, minor_version};
  }

  unsigned static_devices() const override {
    // Fixed when the module was loaded.
    int known = static_devices_.load();
    if (known >= 0) return static_cast<unsigned>(known);
    const auto text = read_attribute(AT_FDCWD, sys_ + "/module/loop/parameters/max_loop");
    if (!text) return 8;
    known = static_cast<int>(std::strtol(text->c_str(), nullptr, 10));
    static_devices_.store(known);
    return static_cast<unsigned>(known);
  }

 private:
  int open_in_dev(unsigned number, int flags, UniqueFd& fd, dev_t& device) const {
    fd.reset(::open(node_path(number).c_str(), flags));
    if (!fd) return -errno;
    struct stat st {};
    if (::fstat(fd.get(), &st) < 0) return -errno;
    if (!S_ISBLK(st.st_mode) || major(st.st_rdev) != LOOP_MAJOR) return -ENOTBLK;
    device = st.st_rdev;
    return 0;
  }

  int open_unwatched_node(unsigned number, std::unique_ptr<LoopNode>& node) const {
    UniqueFd watched;
    UniqueFd fd;
    dev_t device = 0;
    constexpr int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW;
    if (const int r = open_in_dev(number, flags, watched, device); r < 0) return r;
    if (const int r = open_unwatched(nodes_.get(), device, fd); r < 0) return r;
    node = std::make_unique<LinuxLoopNode>(std::move(fd), device, std::move(watched));
    return 0;
  }

  // Since 6.15 ("loop: properly send KOBJ_CHANGED uevent for disk device", which some older
  // kernels have, too). Before, the event of LOOP_CONFIGURE was suppressed and forgotten, and
  // it was the close of the node that told udev.
  bool tells_of_configuring() const { return version() >= std::pair(6, 15); }

  static std::string below_parent(unsigned number) { return "block/" + kernel_name(number) + "/"; }
  std::string node_path(unsigned number) const { return dev_ + "/loop" + std::to_string(number); }

  std::string dev_;
  std::string sys_;
  std::string devices_path_;
  UniqueFd nodes_;
  UniqueFd parent_;  // of the directory with the devices
  mutable std::atomic<int> static_devices_{-1};
};

}  // namespace

std::unique_ptr<LoopKernel> make_linux_loop_kernel(std::string dev, std::string sys) {
  return std::make_unique<LinuxLoopKernel>(std::move(dev), std::move(sys), UniqueFd());
}

std::unique_ptr<LoopKernel> make_linux_loop_kernel(UniqueFd nodes) {
  return std::make_unique<LinuxLoopKernel>("/dev", "/sys", std::move(nodes));
}

}  // namespace loop
