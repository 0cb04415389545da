// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/manager_object.hpp"

#include <utility>

#include "dbus/names.hpp"

namespace loopd {
namespace {

using Paths = std::vector<std::string>;

std::tuple<sdbus::ObjectPath> one_path(const std::string& path) { return {sdbus::ObjectPath(path)}; }

std::tuple<std::vector<sdbus::ObjectPath>> many_paths(const Paths& paths) {
  return {std::vector<sdbus::ObjectPath>(paths.begin(), paths.end())};
}

// Each takes the caller's message apart before it waits, and names the caller
// afterwards: parameters by value, as the object may be gone by then.
Task<std::string> attach(Operations& operations, Task<Caller> asked, loop::UniqueFd file, Options options) {
  Caller caller = co_await asked;
  std::string path =
      co_await operations.attaching().attach(std::move(caller), std::move(file), std::move(options));
  co_return path;
}

Task<std::string> attach_path(Operations& operations, Task<Caller> asked, std::string path, Options options) {
  Caller caller = co_await asked;
  std::string object =
      co_await operations.attaching().attach_path(std::move(caller), std::move(path), std::move(options));
  co_return object;
}

Task<FindOperations::ProbeResult> probe(Operations& operations, Task<Caller> asked, loop::UniqueFd file,
                                        Options options) {
  Caller caller = co_await asked;
  FindOperations::ProbeResult result =
      co_await operations.finding().probe(std::move(caller), std::move(file), std::move(options));
  co_return result;
}

std::tuple<Options> fact_dictionary(const FindOperations::ProbeResult& result) {
  Options facts;
  facts.emplace("size", sdbus::Variant(result.facts.size));
  facts.emplace("block-size", sdbus::Variant(uint32_t{result.facts.block_size}));
  facts.emplace("wasted-bytes", sdbus::Variant(result.facts.wasted_bytes));
  facts.emplace("table", sdbus::Variant(result.facts.table_type));
  facts.emplace("partitions", sdbus::Variant(uint32_t{result.facts.partitions}));
  facts.emplace("overlaps", sdbus::Variant(std::get<0>(many_paths(result.overlaps))));
  facts.emplace("direct-io", sdbus::Variant(result.facts.direct_io));
  facts.emplace("format", sdbus::Variant(result.facts.format));
  return {std::move(facts)};
}

Task<Paths> find_by_path(Operations& operations, Task<Caller> asked, std::string path) {
  Caller caller = co_await asked;
  Paths paths = co_await operations.finding().find_by_path(std::move(caller), std::move(path));
  co_return paths;
}

}  // namespace

ManagerObject::ManagerObject(sdbus::IConnection& connection, ServiceContext& context)
    : AdaptorInterfaces(connection, sdbus::ObjectPath(root_path)), context_(context) {
  registerAdaptor();
}

ManagerObject::~ManagerObject() { unregisterAdaptor(); }

void ManagerObject::device_count_changed() {
  getObject().emitPropertiesChangedSignal(manager_interface, {sdbus::PropertyName("DeviceCount")});
}

void ManagerObject::Attach(sdbus::Result<Path>&& result, sdbus::UnixFd file, Options options) {
  answer_call(
      context_, alive_, std::move(result),
      attach(context_.operations, context_.caller(), loop::UniqueFd(file.release()), std::move(options)),
      one_path);
}

void ManagerObject::AttachPath(sdbus::Result<Path>&& result, std::string path, Options options) {
  answer_call(context_, alive_, std::move(result),
              attach_path(context_.operations, context_.caller(), std::move(path), std::move(options)),
              one_path);
}

void ManagerObject::Probe(sdbus::Result<Options>&& result, sdbus::UnixFd file, Options options) {
  answer_call(
      context_, alive_, std::move(result),
      probe(context_.operations, context_.caller(), loop::UniqueFd(file.release()), std::move(options)),
      fact_dictionary);
}

void ManagerObject::GetDevice(sdbus::Result<Path>&& result, std::string dev_path) {
  answer_call(context_, alive_, std::move(result),
              context_.operations.finding().get_device(std::move(dev_path)), one_path);
}

void ManagerObject::FindByFile(sdbus::Result<std::vector<Path>>&& result, sdbus::UnixFd file) {
  answer_call(context_, alive_, std::move(result),
              context_.operations.finding().find_by_file(loop::UniqueFd(file.release())), many_paths);
}

void ManagerObject::FindByPath(sdbus::Result<std::vector<Path>>&& result, std::string path) {
  answer_call(context_, alive_, std::move(result),
              find_by_path(context_.operations, context_.caller(), std::move(path)), many_paths);
}

void ManagerObject::ListDevices(sdbus::Result<std::vector<Listed>>&& result) {
  const auto convert = [](const FindOperations::Listing& listing) {
    std::vector<Listed> rows;
    for (const auto& [object, dev_path, file, reference] : listing) {
      rows.emplace_back(Path(object), dev_path, file, reference);
    }
    return std::tuple(std::move(rows));
  };
  answer_call(context_, alive_, std::move(result), context_.operations.finding().list_devices(), convert);
}

std::string ManagerObject::Version() { return context_.version; }

uint32_t ManagerObject::DeviceCount() {
  return static_cast<uint32_t>(context_.operations.registry().devices().size());
}

uint32_t ManagerObject::MaxDevicesPerUser() { return context_.operations.limits().devices_per_user; }

std::vector<std::string> ManagerObject::SupportedOptions() { return attach_option_names(); }

}  // namespace loopd
