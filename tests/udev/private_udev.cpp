// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/udev/private_udev.hpp"

#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "core/removal.hpp"
#include "tests/bus/service_sockets.hpp"

namespace udev_test {
namespace {

namespace fs = std::filesystem;
using bus_test::ChildProcess;

constexpr const char* records_directory = "/run/loopd";  // where the rules look

void mount_own(const std::string& directory) {
  fs::create_directories(directory);
  if (::mount("tmpfs", directory.c_str(), "tmpfs", 0, "mode=755") < 0) {
    throw std::system_error(errno, std::generic_category(), directory);
  }
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void run(const std::vector<std::string>& command) {
  const auto result = bus_test::run(command);
  if (result.status != 0) throw std::runtime_error(command[0] + ": " + result.output);
}

}  // namespace

PrivateUdev::PrivateUdev() {
  mount_own("/run");
  mount_own("/dev/disk");
  fs::create_directories("/run/udev/rules.d");
  for (const char* rules : {"59-loopd.rules", "61-loopd.rules"}) {
    fs::copy_file(std::string(LOOPD_SOURCE_DIR "/units/") + rules, std::string("/run/udev/rules.d/") + rules);
  }
  const std::string path = bus_test::scratch_directory() + "/udev-notify";
  const std::string log = bus_test::scratch_directory() + "/udevd.log";
  const loop::UniqueFd notifications = bus_test::make_notify_socket(path);
  process_ = std::make_unique<ChildProcess>(ChildProcess::Setup{.arguments = {"/lib/systemd/systemd-udevd"},
                                                                .environment = {{"NOTIFY_SOCKET", path}},
                                                                .log = log,
                                                                .death_signal = SIGTERM});
  if (!bus_test::wait_for_ready(*process_, notifications.get())) {
    throw std::runtime_error("systemd-udevd does not start: " + read_file(log));
  }
}

PrivateUdev::~PrivateUdev() {
  process_->terminate();
  ::umount2("/dev/disk", MNT_DETACH);
  ::umount2("/run", MNT_DETACH);
}

void settle() { run({"udevadm", "settle", "--timeout=20"}); }

std::vector<std::string> links_of(const std::string& node) {
  std::istringstream words(
      bus_test::run({"udevadm", "info", "--query=symlink", "--name=/dev/" + node}).output);
  std::vector<std::string> links{std::istream_iterator<std::string>(words), {}};
  std::sort(links.begin(), links.end());
  return links;
}

std::string target_of(const std::string& link) {
  std::error_code error;
  const fs::path target = fs::read_symlink("/dev/" + link, error);
  return target.filename().string();
}

void UnderUdev::SetUp() {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  records_ = std::make_unique<loop::AttachmentRecords>(records_directory);
  manager_ = std::make_unique<loop::LoopManager>(*kernel_, records_.get());
}

void UnderUdev::TearDown() {
  if (!records_) return;
  for (const loop::AttachmentRecord& record : records_->all()) {
    if (!loop::is_attached(*kernel_, record.number, record.disk_sequence)) continue;
    loop::remove(*manager_, record.number, record.disk_sequence, {}, bus_test::long_enough);
  }
  settle();
}

loop::DeviceSnapshot UnderUdev::attach(const bus_test::ScratchFile& image, uid_t owner,
                                       const std::string& reference, bool partition_scan) {
  loop::AttachRequest request;
  request.file = image.open(O_RDWR);
  request.reference = reference;
  request.terms.owner = owner;
  if (partition_scan) request.partition_scan = loop::PartitionScan::service;
  loop::Attachment attachment = manager_->attach(request);
  attachment.commit();
  settle();
  return attachment.snapshot();
}

void UnderUdev::detach(const loop::DeviceSnapshot& device) {
  loop::remove(*manager_, device.number, device.disk_sequence, {}, bus_test::long_enough);
  settle();
}

void make_file_system(const bus_test::ScratchFile& image, const std::string& label, uint64_t offset,
                      uint64_t size, const std::string& uuid) {
  std::vector<std::string> command{"mkfs.ext4", "-q", "-F", "-U", uuid, "-L", label};
  if (offset != 0) command.insert(command.end(), {"-E", "offset=" + std::to_string(offset)});
  command.push_back(image.path());
  if (size != 0) command.push_back(std::to_string(size / 1024) + "k");
  run(command);
}

}  // namespace udev_test
