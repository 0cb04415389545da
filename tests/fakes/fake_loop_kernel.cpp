// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/fakes/fake_loop_kernel.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <stdexcept>

#include "tests/support/image.hpp"

namespace loop::testing {
namespace {

constexpr uint64_t sector = 512;
constexpr unsigned page = 4096;
constexpr uint32_t settable_at_configure =
    LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN | LO_FLAGS_DIRECT_IO;

std::string path_of(int fd) {
  std::array<char, 4096> target{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  return length < 0 ? std::string() : std::string(target.data(), static_cast<size_t>(length));
}

}  // namespace

const char* name_of(Call call) {
  switch (call) {
    case Call::open_control:
      return "open_control";
    case Call::lock_control:
      return "lock_control";
    case Call::get_free:
      return "get_free";
    case Call::add:
      return "add";
    case Call::remove:
      return "remove";
    case Call::open_node:
      return "open_node";
    case Call::watch_use:
      return "watch_use";
    case Call::lock:
      return "lock";
    case Call::configure:
      return "configure";
    case Call::status:
      return "status";
    case Call::set_status:
      return "set_status";
    case Call::clear:
      return "clear";
    case Call::set_capacity:
      return "set_capacity";
    case Call::drop_cache:
      return "drop_cache";
    case Call::write_back:
      return "write_back";
    case Call::set_direct_io:
      return "set_direct_io";
    case Call::size:
      return "size";
    case Call::block_size:
      return "block_size";
    case Call::disk_sequence:
      return "disk_sequence";
    case Call::add_partition:
      return "add_partition";
    case Call::delete_partition:
      return "delete_partition";
    case Call::attribute:
      return "attribute";
  }
  return "?";
}

struct FakeLoopKernel::Device {
  unsigned number = 0;
  uint64_t sequence = 0;
  bool bound = false;
  bool rundown = false;
  loop_info64 info{};
  uint64_t size = 0;
  unsigned block_size = sector;
  UniqueFd backing;
  UniqueFd view;  // the mapped range as a file of its own, for libblkid
  std::map<unsigned, PartitionExtent> partitions;
  std::map<unsigned, int> partition_openers;
  int openers = 0;  // descriptors of the disk and of its partitions
  int exclusive = 0;
  const void* lock_owner = nullptr;
  bool locked_by_other = false;
  bool requests_under_way = false;
};

class FakeLoopKernel::Node final : public LoopNode {
 public:
  Node(FakeLoopKernel& kernel, unsigned number, NodeAccess access)
      : kernel_(kernel), number_(number), access_(access) {
    Device& device = kernel_.require(number_);
    ++device.openers;
    if (access_ == NodeAccess::read_exclusive) ++device.exclusive;
    ++kernel_.open_nodes_;
  }
  ~Node() override {
    const std::lock_guard lock(kernel_.mutex_);
    --kernel_.open_nodes_;
    Device& device = kernel_.require(number_);
    if (access_ == NodeAccess::read_exclusive) --device.exclusive;
    if (device.lock_owner == this) device.lock_owner = nullptr;
    --device.openers;
    kernel_.closed(device);
  }

  int fd() const override {
    const std::lock_guard lock(kernel_.mutex_);
    return kernel_.require(number_).view.get();
  }
  dev_t device_number() const override { return makedev(7, number_); }

  int try_lock() override {
    return call(Call::lock, [&](Device& device) {
      if (device.locked_by_other || (device.lock_owner && device.lock_owner != this)) return -EWOULDBLOCK;
      device.lock_owner = this;
      return 0;
    });
  }
  void unlock() override {
    const std::lock_guard lock(kernel_.mutex_);
    if (kernel_.before_unlocking_) kernel_.before_unlocking_(number_);
    Device& device = kernel_.require(number_);
    if (device.lock_owner == this) device.lock_owner = nullptr;
  }
  int configure(const loop_config& config) override {
    return call(Call::configure, [&](Device& device) {
      return kernel_.configure_device(device, config, access_ == NodeAccess::configure,
                                      access_ == NodeAccess::read_exclusive);
    });
  }
  int status(loop_info64& info) const override {
    return call(Call::status, [&](Device& device) {
      if (!device.bound || device.rundown) return -ENXIO;
      info = device.info;
      return 0;
    });
  }
  int set_status(const loop_info64& info) override {
    return call(Call::set_status, [&](Device& device) {
      if (!device.bound || device.rundown) return -ENXIO;
      constexpr uint32_t settable = LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN;
      constexpr uint32_t clearable = LO_FLAGS_AUTOCLEAR;
      uint32_t flags = device.info.lo_flags;
      flags |= info.lo_flags & settable;
      flags &= ~(clearable & ~info.lo_flags);
      device.info.lo_flags = flags;
      device.info.lo_offset = info.lo_offset;
      device.info.lo_sizelimit = info.lo_sizelimit;
      std::memcpy(device.info.lo_file_name, info.lo_file_name, LO_NAME_SIZE);
      compute_size(device);
      return 0;
    });
  }
  int clear() override {
    return call(Call::clear, [&](Device& device) {
      if (!device.bound || device.rundown) return -ENXIO;
      if (kernel_.old_clear() && device.openers == 1) {
        kernel_.unbind(device);
        return 0;
      }
      device.info.lo_flags |= LO_FLAGS_AUTOCLEAR;
      if (device.openers == 1) device.rundown = true;
      return 0;
    });
  }
  int set_capacity() override {
    return call(Call::set_capacity, [&](Device& device) {
      if (!device.bound || device.rundown) return -ENXIO;
      compute_size(device);
      return 0;
    });
  }
  int drop_cache() override {
    return call(Call::drop_cache, [](Device&) { return 0; });
  }
  int write_back() override {
    return call(Call::write_back, [](Device&) { return 0; });
  }
  int set_direct_io(bool enable) override {
    return call(Call::set_direct_io, [&](Device& device) {
      if (!device.bound || device.rundown) return -ENXIO;
      device.info.lo_flags = enable ? device.info.lo_flags | LO_FLAGS_DIRECT_IO
                                    : device.info.lo_flags & ~uint32_t{LO_FLAGS_DIRECT_IO};
      return 0;
    });
  }
  int size(uint64_t& bytes) const override {
    return call(Call::size, [&](Device& device) {
      bytes = device.size;
      return 0;
    });
  }
  int block_size(unsigned& bytes) const override {
    return call(Call::block_size, [&](Device& device) {
      bytes = device.block_size;
      return 0;
    });
  }
  int disk_sequence(uint64_t& sequence) const override {
    return call(Call::disk_sequence, [&](Device& device) {
      if (kernel_.version() < std::pair(5, 15)) return -ENOTTY;
      sequence = device.sequence;
      return 0;
    });
  }
  int add_partition(const PartitionExtent& extent) override {
    return call(Call::add_partition, [&](Device& device) {
      if (extent.number == 0 || extent.offset % device.block_size != 0 ||
          extent.size % device.block_size != 0) {
        return -EINVAL;
      }
      if (extent.offset + extent.size > device.size) return -EINVAL;
      if (device.partitions.contains(extent.number)) return -EBUSY;
      for (const auto& [number, other] : device.partitions) {
        if (extent.offset < other.offset + other.size && other.offset < extent.offset + extent.size)
          return -EBUSY;
      }
      device.partitions[extent.number] = extent;
      return 0;
    });
  }
  int delete_partition(unsigned number) override {
    return call(Call::delete_partition, [&](Device& device) {
      if (!device.partitions.contains(number)) return -ENXIO;
      if (device.partition_openers[number] > 0) return -EBUSY;
      device.partitions.erase(number);
      return 0;
    });
  }

 private:
  template <typename Operation>
  int call(Call kind, Operation operation) const {
    const std::lock_guard lock(kernel_.mutex_);
    if (const int r = kernel_.enter(kind, number_); r < 0) return r;
    const int r = operation(kernel_.require(number_));
    kernel_.leave(kind, number_);
    return r;
  }

  FakeLoopKernel& kernel_;
  unsigned number_;
  NodeAccess access_;
};

class FakeLoopKernel::Control final : public LoopControl {
 public:
  explicit Control(FakeLoopKernel& kernel) : kernel_(kernel) { ++kernel_.open_controls_; }
  ~Control() override {
    unlock();
    const std::lock_guard lock(kernel_.mutex_);
    --kernel_.open_controls_;
  }
  int try_lock() override {
    const std::lock_guard lock(kernel_.mutex_);
    if (const int r = kernel_.enter(Call::lock_control, 0); r < 0) return r;
    if (kernel_.control_locked_by_other_ || kernel_.control_lock_owner_) return -EWOULDBLOCK;
    kernel_.control_lock_owner_ = this;
    return 0;
  }
  void unlock() override {
    const std::lock_guard lock(kernel_.mutex_);
    if (kernel_.control_lock_owner_ == this) kernel_.control_lock_owner_ = nullptr;
  }
  int get_free() override {
    const std::lock_guard lock(kernel_.mutex_);
    if (const int r = kernel_.enter(Call::get_free, 0); r < 0) return r;
    const int number = lowest_free();
    kernel_.leave(Call::get_free, static_cast<unsigned>(number));
    return number;
  }
  int add(int number) override {
    const std::lock_guard lock(kernel_.mutex_);
    if (const int r = kernel_.enter(Call::add, number < 0 ? 0 : static_cast<unsigned>(number)); r < 0)
      return r;
    if (number < 0) number = static_cast<int>(lowest_absent());
    if (kernel_.exists(static_cast<unsigned>(number))) return -EEXIST;
    kernel_.make(static_cast<unsigned>(number));
    kernel_.leave(Call::add, static_cast<unsigned>(number));
    return number;
  }
  int remove(unsigned number) override {
    const std::lock_guard lock(kernel_.mutex_);
    if (const int r = kernel_.enter(Call::remove, number); r < 0) return r;
    const Device* device = kernel_.find(number);
    if (!device) return -ENODEV;
    if (device->bound || device->openers > 0) {
      kernel_.leave(Call::remove, number);
      return -EBUSY;
    }
    kernel_.devices_.erase(number);
    kernel_.leave(Call::remove, number);
    return static_cast<int>(number);
  }

 private:
  int lowest_free() {
    for (const auto& [number, device] : kernel_.devices_) {
      if (!device->bound) return static_cast<int>(number);
    }
    const unsigned number = lowest_absent();
    kernel_.make(number);
    return static_cast<int>(number);
  }
  unsigned lowest_absent() const {
    unsigned number = 0;
    while (kernel_.exists(number)) ++number;
    return number;
  }

  FakeLoopKernel& kernel_;
};

class FakeLoopKernel::Watch final : public UseWatch {
 public:
  Watch(FakeLoopKernel& kernel, unsigned number)
      : kernel_(kernel), event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    kernel_.watches_.emplace(number, event_.get());
    ++kernel_.open_watches_;
  }
  ~Watch() override {
    const std::lock_guard lock(kernel_.mutex_);
    std::erase_if(kernel_.watches_, [&](const auto& entry) { return entry.second == event_.get(); });
    --kernel_.open_watches_;
  }
  int fd() const override { return event_.get(); }
  void drain() override {
    eventfd_t count = 0;
    ::eventfd_read(event_.get(), &count);
  }

 private:
  FakeLoopKernel& kernel_;
  UniqueFd event_;
};

FakeLoopKernel::FakeLoopKernel(Options options) : options_(options) {
  if (!options_.driver) return;
  for (unsigned number = 0; number < options_.static_devices; ++number) make(number);
}

FakeLoopKernel::~FakeLoopKernel() = default;

int FakeLoopKernel::enter(Call call, unsigned number) const {
  log_.push_back(std::string(name_of(call)) + " loop" + std::to_string(number));
  const auto index = static_cast<int>(log_.size());
  if (const auto hook = before_.find(call); hook != before_.end()) hook->second(number);
  if (const auto failure = failures_.find(index); failure != failures_.end()) return -failure->second;
  if (const auto failure = permanent_failures_.find(call); failure != permanent_failures_.end()) {
    return -failure->second;
  }
  return 0;
}

void FakeLoopKernel::leave(Call call, unsigned number) const {
  if (const auto hook = after_.find(call); hook != after_.end()) hook->second(number);
}

FakeLoopKernel::Device* FakeLoopKernel::find(unsigned number) const {
  const auto found = devices_.find(number);
  return found == devices_.end() ? nullptr : found->second.get();
}

FakeLoopKernel::Device& FakeLoopKernel::require(unsigned number) {
  Device* device = find(number);
  if (!device) throw std::logic_error("the test has no loop" + std::to_string(number));
  return *device;
}

FakeLoopKernel::Device& FakeLoopKernel::make(unsigned number) {
  auto& device = devices_[number];
  device = std::make_unique<Device>();
  device->number = number;
  device->sequence = ++last_sequence_;
  return *device;
}

void FakeLoopKernel::compute_size(Device& device) {
  struct stat st {};
  ::fstat(device.backing.get(), &st);
  const auto file_size = static_cast<uint64_t>(st.st_size);
  uint64_t size = file_size > device.info.lo_offset ? file_size - device.info.lo_offset : 0;
  if (device.info.lo_sizelimit != 0) size = std::min<uint64_t>(size, device.info.lo_sizelimit);
  device.size = size / sector * sector;
}

int FakeLoopKernel::configure_device(Device& device, const loop_config& config, bool writable_node,
                                     bool own_exclusive) {
  if (options_.version < std::pair(5, 8)) return -EINVAL;  // no such ioctl
  if (device.exclusive > (own_exclusive ? 1 : 0)) return -EBUSY;
  UniqueFd backing(::fcntl(static_cast<int>(config.fd), F_DUPFD_CLOEXEC, 0));
  struct stat st {};
  if (!backing || ::fstat(backing.get(), &st) < 0) return -EBADF;
  if (device.bound) return -EBUSY;
  if (!S_ISREG(st.st_mode) || (config.info.lo_flags & ~settable_at_configure) != 0) return -EINVAL;
  const unsigned block = config.block_size;
  if (block != 0 && (block < sector || block > page || (block & (block - 1)) != 0)) return -EINVAL;
  if (config.info.lo_offset > INT64_MAX || config.info.lo_sizelimit > INT64_MAX) return -EOVERFLOW;

  device.info = config.info;
  if (options_.version == std::pair(5, 8)) {
    // Its first release took neither from LOOP_CONFIGURE.
    device.info.lo_sizelimit = 0;
    device.info.lo_flags &= ~uint32_t{LO_FLAGS_PARTSCAN};
  }
  const bool writable_file = (::fcntl(backing.get(), F_GETFL) & O_ACCMODE) == O_RDWR;
  if (!writable_node || !writable_file || forced_read_only_.contains(device.number)) {
    device.info.lo_flags |= LO_FLAGS_READ_ONLY;
  }
  device.info.lo_number = device.number;
  device.info.lo_device = st.st_dev;
  device.info.lo_inode = st.st_ino;
  device.info.lo_rdevice = st.st_dev;
  device.backing = std::move(backing);
  device.block_size = block != 0 ? block : sector;
  device.bound = true;
  device.sequence = ++last_sequence_;
  compute_size(device);
  if (device.info.lo_offset == 0) {
    device.view.reset(::fcntl(device.backing.get(), F_DUPFD_CLOEXEC, 0));
  } else {
    device.view = memory_file(device.size);
    write_at(device.view.get(), 0, read_at(device.backing.get(), device.info.lo_offset, device.size));
  }
  return 0;
}

void FakeLoopKernel::unbind(Device& device) {
  // Only the kernel's own scan makes the kernel drop partitions with the file.
  if ((device.info.lo_flags & LO_FLAGS_PARTSCAN) != 0) device.partitions.clear();
  device.bound = false;
  device.rundown = false;
  device.info = {};
  device.size = 0;
  device.block_size = sector;
  device.backing.reset();
  device.view.reset();
  device.sequence = ++last_sequence_;
}

void FakeLoopKernel::closed(Device& device) {
  const bool going = device.rundown || (device.info.lo_flags & LO_FLAGS_AUTOCLEAR) != 0;
  if (device.openers == 0 && device.bound && going) unbind(device);
  notify(device);
}

void FakeLoopKernel::notify(const Device& device) {
  const auto [first, last] = watches_.equal_range(device.number);
  for (auto watch = first; watch != last; ++watch) ::eventfd_write(watch->second, 1);
}

int FakeLoopKernel::open_control(std::unique_ptr<LoopControl>& control) {
  const std::lock_guard lock(mutex_);
  if (const int r = enter(Call::open_control, 0); r < 0) return r;
  if (!options_.driver) return -ENOENT;
  control = std::make_unique<Control>(*this);
  return 0;
}

int FakeLoopKernel::open_node(unsigned number, NodeAccess access, std::unique_ptr<LoopNode>& node) {
  const std::lock_guard lock(mutex_);
  if (const int r = enter(Call::open_node, number); r < 0) return r;
  const Device* device = find(number);
  if (!device) return -ENOENT;
  if (device->rundown) return -ENXIO;
  if (access == NodeAccess::read_exclusive && device->exclusive > 0) return -EBUSY;
  node = std::make_unique<Node>(*this, number, access);
  leave(Call::open_node, number);
  return 0;
}

int FakeLoopKernel::watch_use(unsigned number, std::unique_ptr<UseWatch>& watch) {
  const std::lock_guard lock(mutex_);
  if (const int r = enter(Call::watch_use, number); r < 0) return r;
  if (!exists(number)) return -ENOENT;
  watch = std::make_unique<Watch>(*this, number);
  leave(Call::watch_use, number);
  return 0;
}

std::vector<unsigned> FakeLoopKernel::numbers() const {
  const std::lock_guard lock(mutex_);
  std::vector<unsigned> found;
  for (const auto& [number, device] : devices_) found.push_back(number);
  return found;
}

std::optional<std::string> FakeLoopKernel::attribute(unsigned number, const char* name) const {
  const std::lock_guard lock(mutex_);
  if (enter(Call::attribute, number) < 0) return std::nullopt;
  const Device* device = find(number);
  if (!device) return std::nullopt;
  const std::string wanted = name;
  auto flag = [&](uint32_t bit) { return (device->info.lo_flags & bit) != 0 ? "1" : "0"; };
  if (wanted == "dev") return "7:" + std::to_string(number);
  if (wanted == "size") return std::to_string(device->size / sector);
  if (wanted == "ro") return flag(LO_FLAGS_READ_ONLY);
  if (wanted == "inflight") return device->requests_under_way ? "       1        0" : "       0        0";
  if (wanted == "queue/logical_block_size") return std::to_string(device->block_size);
  if (wanted == "diskseq") {
    if (version() < std::pair(5, 15)) return std::nullopt;
    return std::to_string(device->sequence);
  }
  unsigned index = 0;
  if (std::sscanf(name, "loop%*up%u/", &index) == 1) {
    const auto partition = device->partitions.find(index);
    if (partition == device->partitions.end()) return std::nullopt;
    if (wanted.ends_with("/dev")) return "259:" + std::to_string(number * 256 + index);
    if (wanted.ends_with("/start")) return std::to_string(partition->second.offset / sector);
    if (wanted.ends_with("/size")) return std::to_string(partition->second.size / sector);
  }
  if (!device->bound) return std::nullopt;
  if (wanted == "loop/backing_file") return path_of(device->backing.get());
  if (wanted == "loop/offset") return std::to_string(device->info.lo_offset);
  if (wanted == "loop/sizelimit") return std::to_string(device->info.lo_sizelimit);
  if (wanted == "loop/autoclear") return flag(LO_FLAGS_AUTOCLEAR);
  if (wanted == "loop/partscan") return flag(LO_FLAGS_PARTSCAN);
  if (wanted == "loop/dio") return flag(LO_FLAGS_DIRECT_IO);
  throw std::logic_error("the fake has no attribute " + wanted);
}

bool FakeLoopKernel::has_attribute(unsigned number, const char* name) const {
  const std::lock_guard lock(mutex_);
  const Device* device = find(number);
  return device && (std::string(name) != "loop" || device->bound);
}

std::vector<PartitionExtent> FakeLoopKernel::partitions(unsigned number) const {
  const std::lock_guard lock(mutex_);
  std::vector<PartitionExtent> found;
  if (const Device* device = find(number)) {
    for (const auto& [index, extent] : device->partitions) found.push_back(extent);
  }
  return found;
}

std::set<unsigned> FakeLoopKernel::partitioned() const {
  const std::lock_guard lock(mutex_);
  std::set<unsigned> found;
  for (const auto& [number, device] : devices_) {
    if (!device->partitions.empty()) found.insert(number);
  }
  return found;
}

void FakeLoopKernel::restart_counting() {
  const std::lock_guard lock(mutex_);
  log_.clear();
  failures_.clear();
}

int FakeLoopKernel::calls() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(log_.size());
}

void FakeLoopKernel::fail_call(int index, int error_number) { failures_[index] = error_number; }

void FakeLoopKernel::fail_always(Call call, int error_number) {
  if (error_number == 0) {
    permanent_failures_.erase(call);
  } else {
    permanent_failures_[call] = error_number;
  }
}

std::string FakeLoopKernel::call_text(int index) const {
  const std::lock_guard lock(mutex_);
  const auto at = static_cast<size_t>(index - 1);
  return at < log_.size() ? log_[at] : "no call";
}

void FakeLoopKernel::before(Call call, Hook hook) { before_[call] = std::move(hook); }
void FakeLoopKernel::after(Call call, Hook hook) { after_[call] = std::move(hook); }

void FakeLoopKernel::foreign_attach(unsigned number, int fd, uint32_t flags) {
  const std::lock_guard lock(mutex_);
  Device& device = exists(number) ? require(number) : make(number);
  loop_config config{};
  config.fd = static_cast<__u32>(fd);
  config.info.lo_flags = flags;
  if (const int r = configure_device(device, config, true, false); r < 0) {
    throw std::logic_error("foreign_attach: " + std::string(std::strerror(-r)));
  }
}

void FakeLoopKernel::foreign_attach(unsigned number, uint64_t size) {
  const UniqueFd file = memory_file(size);
  foreign_attach(number, file.get());
}

void FakeLoopKernel::foreign_detach(unsigned number) {
  const std::lock_guard lock(mutex_);
  Device& device = require(number);
  if (!device.bound) return;
  device.info.lo_flags |= LO_FLAGS_AUTOCLEAR;
  closed(device);
}

void FakeLoopKernel::foreign_partition(unsigned number, const PartitionExtent& extent) {
  const std::lock_guard lock(mutex_);
  require(number).partitions[extent.number] = extent;
}

void FakeLoopKernel::foreign_open(unsigned number) {
  const std::lock_guard lock(mutex_);
  ++require(number).openers;
}

void FakeLoopKernel::foreign_close(unsigned number) {
  const std::lock_guard lock(mutex_);
  --require(number).openers;
  closed(require(number));
}

void FakeLoopKernel::foreign_mount(unsigned number) {
  const std::lock_guard lock(mutex_);
  ++require(number).openers;
  ++require(number).exclusive;
}

void FakeLoopKernel::foreign_unmount(unsigned number) {
  const std::lock_guard lock(mutex_);
  --require(number).exclusive;
  foreign_close(number);
}

void FakeLoopKernel::foreign_partition_open(unsigned number, unsigned partition) {
  const std::lock_guard lock(mutex_);
  ++require(number).openers;
  ++require(number).partition_openers[partition];
}

void FakeLoopKernel::foreign_partition_close(unsigned number, unsigned partition) {
  const std::lock_guard lock(mutex_);
  --require(number).partition_openers[partition];
  foreign_close(number);
}

void FakeLoopKernel::foreign_lock(unsigned number, bool locked) {
  const std::lock_guard lock(mutex_);
  require(number).locked_by_other = locked;
  if (!locked) notify(require(number));
}

void FakeLoopKernel::set_requests_under_way(unsigned number, bool under_way) {
  const std::lock_guard lock(mutex_);
  require(number).requests_under_way = under_way;
}

bool FakeLoopKernel::exists(unsigned number) const {
  const std::lock_guard lock(mutex_);
  return devices_.contains(number);
}

bool FakeLoopKernel::bound(unsigned number) const {
  const std::lock_guard lock(mutex_);
  const Device* device = find(number);
  return device && device->bound;
}

std::vector<unsigned> FakeLoopKernel::bound_numbers() const {
  const std::lock_guard lock(mutex_);
  std::vector<unsigned> found;
  for (const auto& [number, device] : devices_) {
    if (device->bound) found.push_back(number);
  }
  return found;
}

loop_info64 FakeLoopKernel::info(unsigned number) const {
  const std::lock_guard lock(mutex_);
  const Device* device = find(number);
  if (!device || !device->bound) throw std::logic_error("info of an unbound device");
  return device->info;
}

uint64_t FakeLoopKernel::sequence(unsigned number) const {
  const std::lock_guard lock(mutex_);
  const Device* device = find(number);
  return device ? device->sequence : 0;
}

std::string FakeLoopKernel::describe() const {
  const std::lock_guard lock(mutex_);
  std::ostringstream text;
  for (const auto& [number, device] : devices_) {
    text << "loop" << number << ": openers " << device->openers << " exclusive " << device->exclusive;
    if (device->lock_owner || device->locked_by_other) text << " locked";
    if (device->bound) {
      text << " bound flags " << device->info.lo_flags << " offset " << device->info.lo_offset << " limit "
           << device->info.lo_sizelimit << " size " << device->size << " block " << device->block_size
           << " name '"
           << std::string(reinterpret_cast<const char*>(device->info.lo_file_name), LO_NAME_SIZE).c_str()
           << "' inode " << device->info.lo_inode;
    }
    if (device->rundown) text << " rundown";
    for (const auto& [index, extent] : device->partitions) {
      text << " p" << index << "@" << extent.offset << "+" << extent.size;
    }
    text << "\n";
  }
  text << "nodes " << open_nodes_ << " controls " << open_controls_ << " watches " << open_watches_
       << (control_lock_owner_ ? " control locked" : "") << "\n";
  return text.str();
}

}  // namespace loop::testing
