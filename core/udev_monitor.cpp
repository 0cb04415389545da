// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/udev_monitor.hpp"

#include <libudev.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>

#include "core/attachment_records.hpp"
#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/unique_fd.hpp"
#include "core/utf8.hpp"

namespace loop {
namespace {

// Room for the events of some thousand devices at once; what the kernel counts
// is several times the message's length.
constexpr int receive_buffer = 16 * 1024 * 1024;

template <auto unref>
struct Unref {
  template <typename T>
  void operator()(T* object) const {
    unref(object);
  }
};
using Udev = std::unique_ptr<udev, Unref<udev_unref>>;
using Monitor = std::unique_ptr<udev_monitor, Unref<udev_monitor_unref>>;
using Device = std::unique_ptr<udev_device, Unref<udev_device_unref>>;

std::optional<DeviceEvent::Action> action_of(const char* text) {
  const std::string_view action = text ? text : "";
  if (action == "add") return DeviceEvent::Action::add;
  if (action == "remove") return DeviceEvent::Action::remove;
  // move, online, bind…: whatever it is, the device is looked at again.
  if (!action.empty()) return DeviceEvent::Action::change;
  return std::nullopt;
}

std::vector<std::string> links_of(udev_device* device) {
  std::vector<std::string> links;
  for (udev_list_entry* entry = udev_device_get_devlinks_list_entry(device); entry != nullptr;
       entry = udev_list_entry_get_next(entry)) {
    links.emplace_back(udev_list_entry_get_name(entry));
  }
  std::sort(links.begin(), links.end());
  return links;
}

std::string property_of(udev_device* device, const char* name) {
  const char* value = udev_device_get_property_value(device, name);
  return value ? value : "";
}

TableEntry entry_of(udev_device* device, unsigned partition) {
  TableEntry entry;
  entry.extent.number = partition;
  entry.type = escape_to_utf8(property_of(device, "ID_PART_ENTRY_TYPE"));
  entry.uuid = escape_to_utf8(property_of(device, "ID_PART_ENTRY_UUID"));
  entry.name = escape_to_utf8(decode_from_udev(property_of(device, "ID_PART_ENTRY_NAME")));
  return entry;
}

std::optional<DeviceEvent> event_of(udev_device* device, bool from_udev) {
  const char* name = udev_device_get_sysname(device);
  const auto action = action_of(udev_device_get_action(device));
  unsigned number = 0;
  unsigned partition = 0;
  int length = 0;
  if (!name || !action || std::sscanf(name, "loop%u%n", &number, &length) != 1) return std::nullopt;
  DeviceEvent event;
  event.action = *action;
  event.number = number;
  if (name[length] == 'p' && std::sscanf(name + length, "p%u", &partition) == 1) {
    event.partition = partition;
    if (from_udev) event.entry = entry_of(device, partition);
  }
  if (const char* sequence = udev_device_get_property_value(device, "DISKSEQ")) {
    event.disk_sequence = std::strtoull(sequence, nullptr, 10);
  }
  event.resized = udev_device_get_property_value(device, "RESIZE") != nullptr;
  event.symlinks = links_of(device);
  return event;
}

}  // namespace

struct UdevMonitor::Handles {
  Udev udev;
  Monitor monitor;
};

bool udev_is_running(const std::string& control_socket) {
  // The file may have outlived its udevd: the list of sockets tells whether somebody
  // listens. (A connection would tell, too, and udevd would complain of it: it takes
  // root's alone, and messages.)
  if (::access(control_socket.c_str(), F_OK) < 0) return false;
  constexpr std::string_view listens = "00010000";  // __SO_ACCEPTCON
  std::ifstream sockets("/proc/self/net/unix");
  for (std::string line; std::getline(sockets, line);) {
    if (!line.ends_with(" " + control_socket)) continue;
    std::istringstream fields(line);
    std::string address, references, protocol, flags;
    fields >> address >> references >> protocol >> flags;
    if (flags == listens) return true;
  }
  return false;
}

UdevMonitor::UdevMonitor(Source source) : handles_(std::make_unique<Handles>()), source_(source) {
  handles_->udev.reset(udev_new());
  if (!handles_->udev) throw Error(Errc::failed, errno, "libudev");
  handles_->monitor.reset(
      udev_monitor_new_from_netlink(handles_->udev.get(), source == Source::udev ? "udev" : "kernel"));
  udev_monitor* monitor = handles_->monitor.get();
  if (!monitor) throw Error(Errc::failed, errno, "cannot follow the kernel's device events");
  udev_monitor_filter_add_match_subsystem_devtype(monitor, "block", nullptr);
  udev_monitor_set_receive_buffer_size(monitor, receive_buffer);  // at most an overflow, which is handled
  if (const int r = udev_monitor_enable_receiving(monitor); r < 0) {
    throw Error(Errc::failed, -r, "cannot follow the kernel's device events");
  }
}

UdevMonitor::~UdevMonitor() = default;

int UdevMonitor::fd() const { return udev_monitor_get_fd(handles_->monitor.get()); }

std::optional<DeviceEvent> UdevMonitor::next() {
  for (;;) {
    errno = 0;
    const Device device(udev_monitor_receive_device(handles_->monitor.get()));
    if (!device) {
      if (errno == ENOBUFS) {
        overflowed_ = true;
        continue;
      }
      if (errno == EINTR) continue;
      return std::nullopt;
    }
    if (auto event = event_of(device.get(), source_ == Source::udev)) return event;
    other_changed_ = true;
  }
}

bool UdevMonitor::take_overflow() {
  const bool overflowed = overflowed_;
  overflowed_ = false;
  return overflowed;
}

bool UdevMonitor::take_other_change() {
  const bool changed = other_changed_;
  other_changed_ = false;
  return changed;
}

std::vector<std::string> UdevMonitor::symlinks(unsigned number) {
  const Udev udev(udev_new());  // its count of references is one thread's
  // By the path: looked up by its name, each part of three paths would be opened on the way to it.
  const std::string path = "/sys/devices/virtual/block/" + kernel_name(number);
  const Device device(udev_device_new_from_syspath(udev.get(), path.c_str()));
  return device ? links_of(device.get()) : std::vector<std::string>();
}

}  // namespace loop
