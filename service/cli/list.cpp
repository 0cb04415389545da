// SPDX-License-Identifier: LGPL-2.1-or-later
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "dbus/names.hpp"
#include "service/cli/common.hpp"

namespace loopctl {
namespace {

using Properties = std::map<sdbus::PropertyName, sdbus::Variant>;

constexpr size_t columns = 7;
using Row = std::array<std::string, columns>;
constexpr Row header{"DEVICE", "SIZE", "OFFSET", "PARTITIONS", "FLAGS", "OWNER", "FILE"};

template <typename Value>
Value get(const Properties& properties, const char* name) {
  return properties.at(sdbus::PropertyName(name)).get<Value>();
}

std::string flags_of(const Properties& properties) {
  std::string flags;
  for (const auto& [name, flag] :
       {std::pair("ReadOnly", "ro"), {"DirectIO", "dio"}, {"Autoclear", "autoclear"}}) {
    if (get<bool>(properties, name)) flags += (flags.empty() ? "" : ",") + std::string(flag);
  }
  return flags.empty() ? "-" : flags;
}

std::string file_of(const Properties& properties) {
  std::string file = get<std::string>(properties, "BackingFile");
  if (file.empty()) file = "?";
  if (get<bool>(properties, "BackingFileDeleted")) file += " (deleted)";
  if (const auto reference = get<std::string>(properties, "Reference"); !reference.empty()) {
    file += " [" + reference + "]";
  }
  return file;
}

Row row_of(const Properties& properties) {
  return {
      get<std::string>(properties, "DevPath"),
      human_size(get<uint64_t>(properties, "Size")),
      human_size(get<uint64_t>(properties, "Offset")),
      std::to_string(get<std::vector<sdbus::ObjectPath>>(properties, "Partitions").size()),
      flags_of(properties),
      std::to_string(get<uint32_t>(properties, "OwnerUID")),
      printable(file_of(properties)),
  };
}

std::map<uint32_t, Row> rows_by_number(sdbus::IConnection& connection) {
  std::map<uint32_t, Row> rows;
  for (const auto& [path, interfaces] : Manager(connection).GetManagedObjects()) {
    const auto device = interfaces.find(sdbus::InterfaceName(loopd::device_interface));
    if (device == interfaces.end()) continue;
    rows.emplace(get<uint32_t>(device->second, "Number"), row_of(device->second));
  }
  return rows;
}

void print_row(const Row& row, const std::array<size_t, columns>& widths) {
  for (size_t i = 0; i + 1 < columns; ++i) std::printf("%-*s  ", static_cast<int>(widths[i]), row[i].c_str());
  std::puts(row.back().c_str());
}

int run(int argc, char** argv) {
  if (!arguments_only(argc, argv).empty()) throw UsageError("takes no arguments");
  const auto connection = connect_to_bus();
  const std::map<uint32_t, Row> rows = rows_by_number(*connection);

  std::array<size_t, columns> widths{};
  const auto widen = [&widths](const Row& row) {
    for (size_t i = 0; i < columns; ++i) widths[i] = std::max(widths[i], row[i].size());
  };
  widen(header);
  for (const auto& [number, row] : rows) widen(row);
  print_row(header, widths);
  for (const auto& [number, row] : rows) print_row(row, widths);
  return EXIT_SUCCESS;
}

}  // namespace

const Verb list_verb{"list", "", "List the attached loop devices, whoever attached them", "", run};

}  // namespace loopctl
