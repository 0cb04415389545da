// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include "dbus/loop1_adaptor.h"
#include "dbus/service_context.hpp"

namespace loopd {

// /org/example/Loop1/loopN on one connection: one attachment. It is withdrawn
// when that is gone.
class DeviceObject final : public sdbus::AdaptorInterfaces<org::example::Loop1_adaptor> {
 public:
  DeviceObject(sdbus::IConnection& connection, ServiceContext& context, const Device& device);
  ~DeviceObject();

  void announce();
  void retire();
  void changed(const std::vector<std::string>& properties);

  // What changes without an event is what it is now, for the message that is being dispatched.
  void refresh() { fresh_snapshot(); }

 private:
  using Options = std::map<std::string, sdbus::Variant>;

  void Resize(sdbus::Result<uint64_t, uint64_t>&& result) override;
  void ResizeWithOptions(sdbus::Result<uint64_t, uint64_t>&& result, Options options) override;
  void Open(sdbus::Result<sdbus::UnixFd>&& result, std::string mode) override;
  void SetAutoclear(sdbus::Result<>&& result, bool enable) override;
  void SetDirectIO(sdbus::Result<>&& result, bool enable) override;
  void RescanPartitions(sdbus::Result<>&& result) override;
  void Remove(sdbus::Result<>&& result) override;
  void RemoveWithOptions(sdbus::Result<>&& result, Options options) override;

  std::string DevPath() override;
  uint64_t Dev() override;
  std::string BackingFile() override;
  std::vector<uint8_t> BackingFileBytes() override;
  bool BackingFileDeleted() override;
  uint64_t BackingFileSize() override;
  uint64_t BackingInode() override;
  uint64_t BackingDev() override;
  uint32_t Number() override;
  uint64_t DiskSequence() override;
  uint64_t Size() override;
  uint64_t Offset() override;
  uint64_t SizeLimit() override;
  uint32_t BlockSize() override;
  bool ReadOnly() override;
  bool Autoclear() override;
  bool PartitionScan() override;
  bool DirectIO() override;
  std::string Reference() override;
  uint32_t OwnerUID() override;
  std::string Lease() override;
  std::vector<sdbus::ObjectPath> Partitions() override;
  std::vector<std::string> Symlinks() override;

  const Device& device() const;
  const loop::DeviceSnapshot& snapshot() const { return device().snapshot; }
  const loop::DeviceSnapshot& fresh_snapshot();
  Target target() const { return {number_, disk_sequence_}; }

  ServiceContext& context_;
  std::shared_ptr<void> alive_ =
      std::make_shared<char>();  // for replies: they must not come after the object
  unsigned number_;
  uint64_t disk_sequence_;
  uint64_t refreshed_for_ = 0;  // the message
};

}  // namespace loopd
