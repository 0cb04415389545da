// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bus/scratch.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <poll.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>
#include <stdexcept>
#include <system_error>

#include "tests/bus/child_process.hpp"

namespace bus_test {
namespace {

constexpr unsigned static_nodes = 8;  // those that are there without anybody's doing

std::string directory;
loop::UniqueFd alive;  // its other end tells the janitor that we are gone
pid_t janitor = -1;
unsigned files_made = 0;
std::set<std::pair<uint64_t, uint64_t>> deep_files;  // device and inode

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::vector<std::string> entries(int directory_fd) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(directory_fd), ::closedir);
  if (!dir) return names;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  return names;
}

std::vector<std::string> entries(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return fd < 0 ? std::vector<std::string>() : entries(fd);
}

// std::filesystem works with whole paths, which may be too long here.
void remove_tree(int parent, const std::string& name) {
  const int fd = ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd >= 0) {
    const loop::UniqueFd keep(::dup(fd));
    for (const std::string& entry : entries(fd)) remove_tree(keep.get(), entry);
    ::unlinkat(parent, name.c_str(), AT_REMOVEDIR);
  } else {
    ::unlinkat(parent, name.c_str(), 0);
  }
}

std::vector<unsigned> loop_numbers() {
  std::vector<unsigned> numbers;
  for (const std::string& name : entries("/sys/block")) {
    if (name.starts_with("loop")) numbers.push_back(static_cast<unsigned>(std::stoul(name.substr(4))));
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

loop::UniqueFd open_node(unsigned number) {
  return loop::UniqueFd(
      ::open(("/dev/loop" + std::to_string(number)).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

// Whether one of ours; where the path is too long for the kernel, the inode tells.
bool is_ours(unsigned number, std::string& file) {
  if (!is_attached(number)) return false;
  if (const auto path = sysfs(number, "loop/backing_file")) {
    file = *path;
    return path->starts_with(directory + "/");
  }
  loop_info64 info{};
  const loop::UniqueFd node = open_node(number);
  if (::ioctl(node.get(), LOOP_GET_STATUS64, &info) < 0) return false;
  file = "inode " + std::to_string(info.lo_inode);
  return deep_files.contains({info.lo_device, info.lo_inode});
}

void unmount_all() {
  std::ifstream mounts("/proc/self/mountinfo");
  std::vector<std::string> points;
  for (std::string line; std::getline(mounts, line);) {
    if (const auto at = line.find(" " + directory + "/"); at != std::string::npos) {
      points.push_back(line.substr(at + 1, line.find(' ', at + 1) - at - 1));
    }
  }
  for (auto point = points.rbegin(); point != points.rend(); ++point) {
    if (*point != run_directory()) ::umount2(point->c_str(), MNT_DETACH);
  }
}

void remove_directory() {
  ::umount2(run_directory().c_str(), MNT_DETACH);
  remove_tree(AT_FDCWD, directory);
}

void wipe() {
  sweep_scratch();
  remove_directory();
}

void start_janitor() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) < 0) fail("pipe");
  janitor = ::fork();
  if (janitor < 0) fail("fork");
  if (janitor == 0) {
    ::setsid();  // away from Ctrl-C and a killed process group
    ::close(ends[1]);
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) ::signal(number, SIG_IGN);
    char end = 0;
    const ssize_t got = ::read(ends[0], &end, 1);
    if (got == 0) wipe();
    ::_exit(0);
  }
  ::close(ends[0]);
  alive.reset(ends[1]);
}

}  // namespace

void set_up_scratch() {
  // Mounts of the tests go with the program, and nobody else sees them.
  if (::unshare(CLONE_NEWNS) < 0) fail("unshare");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) fail("mount --make-rprivate /");
  const char* parent = std::getenv("LOOPD_TEST_DIR");
  directory =
      std::string(parent ? parent : "/var/tmp") + "/loopd-test." + std::to_string(::getpid()) + ".XXXXXX";
  if (!::mkdtemp(directory.data())) fail(directory);
  ::chmod(directory.c_str(), 0755);
  ::mkdir(run_directory().c_str(), 0755);
  if (::mount("tmpfs", run_directory().c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") < 0) {
    fail(run_directory());
  }
  start_janitor();
}

std::vector<std::string> tear_down_scratch() {
  std::vector<std::string> left = sweep_scratch();
  remove_directory();
  [[maybe_unused]] const ssize_t written = ::write(alive.get(), "q", 1);
  ::waitpid(janitor, nullptr, 0);
  return left;
}

const std::string& scratch_directory() { return directory; }

std::string run_directory() { return directory + "/run"; }

std::vector<std::string> sweep_scratch() {
  unmount_all();
  std::vector<std::string> found;
  for (const unsigned number : loop_numbers()) {
    std::string file;
    if (!is_ours(number, file)) continue;
    found.push_back("loop" + std::to_string(number) + " (" + file + ")");
    loop::UniqueFd node = open_node(number);
    for (const unsigned partition : sysfs_partitions(number)) {
      blkpg_partition which{};
      which.pno = static_cast<int>(partition);
      blkpg_ioctl_arg argument{BLKPG_DEL_PARTITION, 0, sizeof which, &which};
      ::ioctl(node.get(), BLKPG, &argument);
    }
    ::ioctl(node.get(), LOOP_CLR_FD, 0);
    node.reset();
    const loop::UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (number >= static_nodes) ::ioctl(control.get(), LOOP_CTL_REMOVE, static_cast<int>(number));
  }
  return found;
}

ScratchFile::ScratchFile(uint64_t size, const std::string& name)
    : path_(directory + "/" + (name.empty() ? "file" + std::to_string(++files_made) : name)),
      fd_(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {
  if (!fd_) fail(path_);
  resize(size);
}

ScratchFile::~ScratchFile() { ::unlink(path_.c_str()); }

struct stat ScratchFile::status() const {
  struct stat st {};
  ::fstat(fd_.get(), &st);
  return st;
}

loop::UniqueFd ScratchFile::open(int flags) const {
  loop::UniqueFd fd(::open(path_.c_str(), flags | O_CLOEXEC));
  if (!fd) fail(path_);
  return fd;
}

void ScratchFile::resize(uint64_t size) const {
  if (::ftruncate(fd_.get(), static_cast<off_t>(size)) < 0) fail(path_);
}

void ScratchFile::write(uint64_t offset, const std::string& bytes) const {
  if (::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) < 0) fail(path_);
}

std::string ScratchFile::read(uint64_t offset, size_t length) const {
  std::string bytes(length, '\0');
  const ssize_t got = ::pread(fd_.get(), bytes.data(), length, static_cast<off_t>(offset));
  if (got < 0) fail(path_);
  bytes.resize(static_cast<size_t>(got));
  return bytes;
}

DeepFile::DeepFile(uint64_t size) {
  loop::UniqueFd at(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int level = 0; level < 20; ++level) {
    const std::string name(250, static_cast<char>('a' + level));
    if (::mkdirat(at.get(), name.c_str(), 0755) < 0) fail("mkdirat");
    loop::UniqueFd next(::openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    at = std::move(next);
  }
  fd_.reset(::openat(at.get(), "image", O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd_ || ::ftruncate(fd_.get(), static_cast<off_t>(size)) < 0) fail("deep file");
  struct stat st {};
  ::fstat(fd_.get(), &st);
  deep_files.emplace(st.st_dev, st.st_ino);
}

DeepFile::~DeepFile() { remove_tree(AT_FDCWD, directory + "/" + std::string(250, 'a')); }

void partition(const ScratchFile& file, const char* table) {
  const CommandResult result =
      run({"sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", file.path()}, table);
  if (result.status != 0) throw std::runtime_error("sfdisk: " + result.output);
}

MountPoint::MountPoint(const std::string& name) : path_(directory + "/" + name) {
  if (::mkdir(path_.c_str(), 0755) < 0 && errno != EEXIST) fail(path_);
}

MountPoint::~MountPoint() {
  ::umount2(path_.c_str(), MNT_DETACH);
  ::rmdir(path_.c_str());
}

bool MountPoint::mount(const std::string& device, const char* type) const {
  return ::mount(device.c_str(), path_.c_str(), type, 0, nullptr) == 0;
}

bool MountPoint::unmount() const { return ::umount(path_.c_str()) == 0; }

std::optional<std::string> sysfs(unsigned number, const std::string& attribute) {
  const loop::UniqueFd fd(
      ::open(("/sys/block/loop" + std::to_string(number) + "/" + attribute).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::string content(8192, '\0');
  const ssize_t got = ::read(fd.get(), content.data(), content.size());
  if (got < 0) return std::nullopt;
  content.resize(static_cast<size_t>(got));
  if (!content.empty() && content.back() == '\n') content.pop_back();
  return content;
}

bool is_attached(unsigned number) {
  return ::access(("/sys/block/loop" + std::to_string(number) + "/loop").c_str(), F_OK) == 0;
}

bool node_exists(unsigned number, unsigned partition) {
  std::string path = "/dev/loop" + std::to_string(number);
  if (partition != 0) path += "p" + std::to_string(partition);
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISBLK(st.st_mode);
}

std::vector<unsigned> sysfs_partitions(unsigned number) {
  const std::string disk = "loop" + std::to_string(number);
  std::vector<unsigned> found;
  for (const std::string& name : entries("/sys/block/" + disk)) {
    if (name.starts_with(disk + "p")) {
      found.push_back(static_cast<unsigned>(std::stoul(name.substr(disk.size() + 1))));
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

int kernel_detach(unsigned number) {
  const loop::UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ::inotify_add_watch(watch.get(), ("/dev/loop" + std::to_string(number)).c_str(), IN_CLOSE);
  {
    const loop::UniqueFd node = open_node(number);
    if (::ioctl(node.get(), LOOP_CLR_FD, 0) < 0) return errno;
  }
  const auto deadline = Clock::now() + long_enough;
  while (is_attached(number)) {  // udev has it open
    if (Clock::now() >= deadline) return ETIMEDOUT;
    std::array<char, 4096> events{};
    while (::read(watch.get(), events.data(), events.size()) > 0) {
    }
    pollfd waited{watch.get(), POLLIN, 0};
    // The detach comes a moment after the close that is reported.
    ::poll(&waited, 1, 10);
  }
  return 0;
}

int kernel_attach(unsigned number, int file) {
  const loop::UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  ::ioctl(control.get(), LOOP_CTL_ADD, static_cast<int>(number));
  const loop::UniqueFd node(::open(("/dev/loop" + std::to_string(number)).c_str(), O_RDWR | O_CLOEXEC));
  return ::ioctl(node.get(), LOOP_SET_FD, file) < 0 ? errno : 0;
}

int kernel_add_partition(unsigned number, unsigned partition, uint64_t offset, uint64_t size) {
  const loop::UniqueFd node = open_node(number);
  blkpg_partition which{};
  which.pno = static_cast<int>(partition);
  which.start = static_cast<long long>(offset);
  which.length = static_cast<long long>(size);
  blkpg_ioctl_arg argument{BLKPG_ADD_PARTITION, 0, sizeof which, &which};
  return ::ioctl(node.get(), BLKPG, &argument) < 0 ? errno : 0;
}

}  // namespace bus_test
