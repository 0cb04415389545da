// SPDX-License-Identifier: LGPL-2.1-or-later
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "core/image_probe.hpp"
#include "core/unique_fd.hpp"
#include "dbus/operation_context.hpp"
#include "dbus/options.hpp"

namespace loopd {

// What changes nothing: Probe, GetDevice, FindByFile, FindByPath, ListDevices.
class FindOperations {
 public:
  // Borrowed.
  explicit FindOperations(OperationContext& context) : context_(context) {}

  // What attaching would do, without doing it.
  struct ProbeResult {
    loop::ImageFacts facts;
    std::vector<std::string> overlaps;  // object paths
  };
  Task<ProbeResult> probe(Caller caller, loop::UniqueFd file, Options options);

  // Object paths.
  Task<std::string> get_device(std::string dev_path);
  Task<std::vector<std::string>> find_by_file(loop::UniqueFd file);
  Task<std::vector<std::string>> find_by_path(Caller caller, std::string path);

  // Object path, device path, backing file, reference.
  using Listing = std::vector<std::tuple<std::string, std::string, std::string, std::string>>;
  Task<Listing> list_devices();

  // Reads again what changes without an event, for Get and GetAll, and tells the
  // difference soon.
  void refresh(unsigned number);

 private:
  std::vector<std::string> backed_by(const loop::FileIdentity& file) const;

  OperationContext& context_;
};

}  // namespace loopd
