// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <libudev.h>
#include <linux/blkpg.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <systemd/sd-bus.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <map>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "tests/bench/bare.hpp"
#include "tests/bench/benchmarks.hpp"

namespace loopd_bench {
namespace {

constexpr int listen_step_ms = 100;
constexpr uint64_t partition_size = 64 * bus_test::KiB;

using Moments = std::map<unsigned, Clock::time_point>;  // by partition

// When udev was done with each partition that has been added to a device: told by
// udev itself, at the moment at which every program that listens is told.
class UdevMoments {
 public:
  UdevMoments(unsigned number, size_t expected)
      : prefix_("loop" + std::to_string(number) + "p"), expected_(expected) {
    udev_.reset(udev_new());
    monitor_.reset(udev_monitor_new_from_netlink(udev_.get(), "udev"));
    if (!monitor_ ||
        udev_monitor_filter_add_match_subsystem_devtype(monitor_.get(), "block", "partition") < 0 ||
        udev_monitor_set_receive_buffer_size(monitor_.get(), 16 << 20) < 0 ||
        udev_monitor_enable_receiving(monitor_.get()) < 0) {
      throw std::runtime_error("cannot listen to udev");
    }
    thread_ = std::jthread([this](const std::stop_token& stop) { listen(stop); });
  }

  // After the last of them.
  const Moments& moments() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
    return moments_;
  }

 private:
  struct Unref {
    void operator()(udev* context) const { udev_unref(context); }
    void operator()(udev_monitor* monitor) const { udev_monitor_unref(monitor); }
    void operator()(udev_device* device) const { udev_device_unref(device); }
  };

  void listen(const std::stop_token& stop) {
    pollfd waited{udev_monitor_get_fd(monitor_.get()), POLLIN, 0};
    while (moments_.size() < expected_ && !stop.stop_requested()) {
      if (::poll(&waited, 1, listen_step_ms) <= 0) continue;
      const auto now = Clock::now();
      const std::unique_ptr<udev_device, Unref> device(udev_monitor_receive_device(monitor_.get()));
      if (!device || std::string(udev_device_get_action(device.get())) != "add") continue;
      const std::string name = udev_device_get_sysname(device.get());
      if (name.starts_with(prefix_))
        moments_.emplace(static_cast<unsigned>(std::stoul(name.substr(prefix_.size()))), now);
    }
  }

  std::string prefix_;
  size_t expected_;
  std::unique_ptr<udev, Unref> udev_;
  std::unique_ptr<udev_monitor, Unref> monitor_;
  Moments moments_;
  std::jthread thread_;
};

void change_partition(int device, int operation, unsigned partition) {
  blkpg_partition range{};
  range.start = static_cast<long long>((partition - 1) * partition_size);
  range.length = static_cast<long long>(partition_size);
  range.pno = static_cast<int>(partition);
  blkpg_ioctl_arg argument{};
  argument.op = operation;
  argument.datalen = sizeof range;
  argument.data = &range;
  if (::ioctl(device, BLKPG, &argument) < 0) throw std::system_error(errno, std::generic_category(), "BLKPG");
}

// Somebody else adds partitions to a device of somebody else.
class ForeignPartitions {
 public:
  ForeignPartitions(Stage& stage, unsigned count)
      : stage_(stage), count_(count), image_(count * partition_size) {
    number_ = bare_attach(image_.fd());
    device_ = loop::UniqueFd(::open(bus_test::node_of(number_).c_str(), O_RDONLY | O_CLOEXEC));
    if (!device_) throw std::system_error(errno, std::generic_category(), bus_test::node_of(number_));
    stage_.quiet();
  }
  ForeignPartitions(const ForeignPartitions&) = delete;
  ForeignPartitions& operator=(const ForeignPartitions&) = delete;
  ~ForeignPartitions() {
    stage_.quiet();
    for (unsigned partition = 1; partition <= added_; ++partition) {
      change_partition(device_.get(), BLKPG_DEL_PARTITION, partition);
    }
    device_.reset();
    bare_detach(number_);
    stage_.quiet();
  }

  unsigned number() const { return number_; }
  void add() {
    for (unsigned partition = 1; partition <= count_; ++partition) {
      change_partition(device_.get(), BLKPG_ADD_PARTITION, partition);
      added_ = partition;
    }
  }

 private:
  Stage& stage_;
  unsigned count_;
  bus_test::ScratchFile image_;
  unsigned number_ = 0;
  unsigned added_ = 0;
  loop::UniqueFd device_;
};

std::vector<Duration> latencies(const Moments& told, const Moments& signalled) {
  std::vector<Duration> all;
  for (const auto& [partition, moment] : told) {
    const auto signal = signalled.find(partition);
    if (signal == signalled.end()) throw std::runtime_error("a partition without its signal");
    all.push_back(signal->second - moment);
  }
  return all;
}

// The time is the 95th percentile of those partitions.
Duration measure(Stage& stage, unsigned count, Figures& figures) {
  ForeignPartitions partitions(stage, count);
  UdevMoments udev(partitions.number(), count);
  Caller listener(stage.stack().address());
  Moments signalled;
  listener.subscribe("type='signal',interface='org.example.Loop1',member='PartitionAdded',path='" +
                         bus_test::object_of(partitions.number()) + "'",
                     [&](sd_bus_message* message) {
                       const auto now = Clock::now();
                       uint32_t partition = 0;
                       if (sd_bus_message_read(message, "osu", nullptr, nullptr, &partition) > 0) {
                         signalled.emplace(partition, now);
                       }
                     });
  // Signals are to be heard when they come, not when all are added.
  auto adding = std::async(std::launch::async, [&] { partitions.add(); });
  listener.wait_until([&] { return signalled.size() == count; });
  adding.get();
  stage.quiet();
  const std::vector<Duration> all = latencies(udev.moments(), signalled);
  if (all.size() != count) throw std::runtime_error("udev was not heard");
  figures["p50"] = seconds(percentile(all, 0.5));
  figures["max"] = seconds(percentile(all, 1.0));
  return percentile(all, 0.95);
}

}  // namespace

void add_event_benchmarks(Stage& stage) {
  add("partition-signal/loopd/1", {60}, [&stage](Figures& figures) { return measure(stage, 1, figures); });
  add("partition-signal/loopd/200", {10, 1},
      [&stage](Figures& figures) { return measure(stage, 200, figures); });
}

}  // namespace loopd_bench
