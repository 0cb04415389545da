// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include "dbus/loop1_adaptor.h"
#include "dbus/service_context.hpp"

namespace loopd {

// /org/example/Loop1 on one connection.
class ManagerObject final
    : public sdbus::AdaptorInterfaces<sdbus::ObjectManager_adaptor, org::example::Loop1::Manager_adaptor> {
 public:
  ManagerObject(sdbus::IConnection& connection, ServiceContext& context);
  ~ManagerObject();

  void device_count_changed();

 private:
  using Options = std::map<std::string, sdbus::Variant>;
  using Path = sdbus::ObjectPath;
  using Listed = sdbus::Struct<Path, std::string, std::string, std::string>;

  void Attach(sdbus::Result<Path>&& result, sdbus::UnixFd file, Options options) override;
  void AttachPath(sdbus::Result<Path>&& result, std::string path, Options options) override;
  void Probe(sdbus::Result<Options>&& result, sdbus::UnixFd file, Options options) override;
  void GetDevice(sdbus::Result<Path>&& result, std::string dev_path) override;
  void FindByFile(sdbus::Result<std::vector<Path>>&& result, sdbus::UnixFd file) override;
  void FindByPath(sdbus::Result<std::vector<Path>>&& result, std::string path) override;
  void ListDevices(sdbus::Result<std::vector<Listed>>&& result) override;

  std::string Version() override;
  uint32_t DeviceCount() override;
  uint32_t MaxDevicesPerUser() override;
  std::vector<std::string> SupportedOptions() override;

  ServiceContext& context_;
  std::shared_ptr<void> alive_ =
      std::make_shared<char>();  // for replies: they must not come after the object
};

}  // namespace loopd
