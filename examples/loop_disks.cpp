// SPDX-License-Identifier: LGPL-2.1-or-later
//
// loop_disks.py in C++: sdbus-c++ and the proxies that it generates of the
// installed interface file.
//
//     sdbus-c++-xml2cpp /usr/share/dbus-1/interfaces/org.example.Loop1.xml --proxy=loop1_proxy.h
//     c++ -std=c++20 loop_disks.cpp $(pkg-config --cflags --libs sdbus-c++) -o loop_disks
#include <fcntl.h>
#include <sdbus-c++/sdbus-c++.h>

#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <string>
#include <system_error>

#include "loop1_proxy.h"

namespace {

const sdbus::ServiceName service{"org.example.Loop1"};
const sdbus::ObjectPath root{"/org/example/Loop1"};
const sdbus::InterfaceName device_interface{"org.example.Loop1"};
const sdbus::InterfaceName partition_interface{"org.example.Loop1.Partition"};

using Interfaces = std::map<sdbus::InterfaceName, std::map<sdbus::PropertyName, sdbus::Variant>>;

class Manager final : public sdbus::ProxyInterfaces<org::example::Loop1::Manager_proxy> {
 public:
  explicit Manager(sdbus::IConnection& bus) : ProxyInterfaces(bus, service, root) { registerProxy(); }
  ~Manager() { unregisterProxy(); }
};

class Device final : public sdbus::ProxyInterfaces<org::example::Loop1_proxy, sdbus::Properties_proxy> {
 public:
  Device(sdbus::IConnection& bus, sdbus::ObjectPath path) : ProxyInterfaces(bus, service, std::move(path)) {
    registerProxy();
  }
  ~Device() { unregisterProxy(); }

 private:
  void onPartitionAdded(const sdbus::ObjectPath&, const std::string&, const uint32_t&) override {}
  void onPartitionRemoved(const sdbus::ObjectPath&, const std::string&, const uint32_t&) override {}
  void onPropertiesChanged(const sdbus::InterfaceName&, const std::map<sdbus::PropertyName, sdbus::Variant>&,
                           const std::vector<sdbus::PropertyName>&) override {}
};

// One line for a device or a partition.
std::string describe(const Interfaces& interfaces) {
  const auto partition = interfaces.find(partition_interface);
  const bool is_partition = partition != interfaces.end();
  const auto& properties = is_partition ? partition->second : interfaces.at(device_interface);
  return properties.at(sdbus::PropertyName("DevPath")).get<std::string>() + "  " +
         std::to_string(properties.at(sdbus::PropertyName("Size")).get<uint64_t>()) + " bytes  " +
         properties.at(sdbus::PropertyName(is_partition ? "Name" : "BackingFile")).get<std::string>();
}

class Objects final : public sdbus::ProxyInterfaces<sdbus::ObjectManager_proxy> {
 public:
  explicit Objects(sdbus::IConnection& bus) : ProxyInterfaces(bus, service, root) { registerProxy(); }
  ~Objects() { unregisterProxy(); }

 private:
  void onInterfacesAdded(const sdbus::ObjectPath&, const Interfaces& interfaces) override {
    std::cout << "+ " << describe(interfaces) << std::endl;
  }
  void onInterfacesRemoved(const sdbus::ObjectPath& path, const std::vector<sdbus::InterfaceName>&) override {
    std::cout << "- " << path << std::endl;
  }
};

void list(sdbus::IConnection& bus) {
  for (const auto& [path, interfaces] : Objects(bus).GetManagedObjects()) {
    if (path != root) std::cout << describe(interfaces) << '\n';
  }
}

void attach(sdbus::IConnection& bus, const std::string& image) {
  const int file = ::open(image.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw std::system_error(errno, std::generic_category(), image);
  const sdbus::UnixFd owned(file, sdbus::adopt_fd);
  const auto path = Manager(bus).Attach(
      owned, {{"read-only", sdbus::Variant(true)}, {"partition-scan", sdbus::Variant(true)}});
  std::cout << Device(bus, path).DevPath() << '\n';
}

void remove(sdbus::IConnection& bus, const std::string& dev_path) {
  Device(bus, Manager(bus).GetDevice(dev_path)).Remove();
}

void watch(sdbus::IConnection& bus) {
  const Objects objects(bus);
  std::cout << "watching" << std::endl;
  bus.enterEventLoop();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  try {
    const auto bus = sdbus::createSystemBusConnection();
    if (verb == "list" && argc == 2) {
      list(*bus);
    } else if (verb == "attach" && argc == 3) {
      attach(*bus, argv[2]);
    } else if (verb == "remove" && argc == 3) {
      remove(*bus, argv[2]);
    } else if (verb == "watch" && argc == 2) {
      watch(*bus);
    } else {
      std::cerr << "Usage: loop_disks list | attach IMAGE | remove DEVICE | watch\n";
      return EXIT_FAILURE;
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
