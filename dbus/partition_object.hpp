// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include "dbus/loop1_adaptor.h"
#include "dbus/object_registry.hpp"

namespace loopd {

// /org/example/Loop1/loopN/pM on one connection.
class PartitionObject final : public sdbus::AdaptorInterfaces<org::example::Loop1::Partition_adaptor> {
 public:
  PartitionObject(sdbus::IConnection& connection, const ObjectRegistry& registry, const loopd::Device& device,
                  unsigned partition);
  ~PartitionObject();

  void announce();
  void retire();
  void changed(const std::vector<std::string>& properties);

 private:
  std::string DevPath() override;
  uint64_t Dev() override;
  uint32_t Number() override;
  uint64_t Offset() override;
  uint64_t Size() override;
  sdbus::ObjectPath Device() override;
  std::string Type() override;
  std::string UUID() override;
  std::string Name() override;

  const loopd::Device& owner() const { return *registry_.find(device_number_); }
  const Partition& partition() const { return owner().partitions.at(number_); }

  const ObjectRegistry& registry_;
  unsigned device_number_;
  unsigned number_;
};

}  // namespace loopd
