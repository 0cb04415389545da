// SPDX-License-Identifier: LGPL-2.1-or-later
#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>

#include "core/utf8.hpp"
#include "service/cli/all_verbs.hpp"
#include "service/cli/device_argument.hpp"
#include "service/cli/facts.hpp"
#include "service/cli/terminal.hpp"
#include "service/cli/text.hpp"

namespace loopctl {
namespace {

enum class Kind { plain, bytes, partitions, flags, owner, file, health };

struct Column {
  const char* name;
  const char* property;
  Kind kind = Kind::plain;
  bool right = false;  // numbers
};

constexpr std::array columns{
    Column{"DEVICE", "DevPath"},
    Column{"SIZE", "Size", Kind::bytes, true},
    Column{"OFFSET", "Offset", Kind::bytes, true},
    Column{"SIZE-LIMIT", "SizeLimit", Kind::bytes, true},
    Column{"BLOCK-SIZE", "BlockSize", Kind::plain, true},
    Column{"PARTITIONS", "Partitions", Kind::partitions, true},
    Column{"FLAGS", nullptr, Kind::flags},
    Column{"OWNER", "OwnerUID", Kind::owner},
    Column{"REFERENCE", "Reference"},
    Column{"FILE", "BackingFile", Kind::file},
    Column{"HEALTH", nullptr, Kind::health},
    Column{"FILE-SIZE", "BackingFileSize", Kind::bytes, true},
    Column{"INODE", "BackingInode", Kind::plain, true},
    Column{"FILE-DEV", "BackingDev"},
    Column{"DELETED", "BackingFileDeleted"},
    Column{"NUMBER", "Number", Kind::plain, true},
    Column{"DEV", "Dev"},
    Column{"DISK-SEQUENCE", "DiskSequence", Kind::plain, true},
    Column{"READ-ONLY", "ReadOnly"},
    Column{"AUTOCLEAR", "Autoclear"},
    Column{"PARTITION-SCAN", "PartitionScan"},
    Column{"DIRECT-IO", "DirectIO"},
    Column{"LEASE", "Lease"},
    Column{"LINKS", "Symlinks"},
};

constexpr const char* default_columns = "DEVICE,SIZE,OFFSET,PARTITIONS,FLAGS,OWNER,REFERENCE,FILE";

constexpr std::array options{
    Option{"output", 'o', "COLUMNS", "Show these columns, separated by commas; 'all', 'help'"},
    Option{"bytes", 'b', nullptr, "Show sizes in bytes, on a terminal, too"},
    Option{"no-legend", 0, nullptr, "Do not show the column titles"},
    json_option,
};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::vector<const Column*> all_columns() {
  std::vector<const Column*> all;
  for (const Column& column : columns) all.push_back(&column);
  return all;
}

std::string names_of_columns() {
  std::vector<std::string> names;
  for (const Column& column : columns) names.emplace_back(column.name);
  return join(names, ", ");
}

std::vector<const Column*> parse_columns(const std::string& text) {
  if (text == "all") return all_columns();
  std::vector<const Column*> chosen;
  for (const std::string& name : split(text, ',')) {
    const auto found = std::find_if(columns.begin(), columns.end(),
                                    [&](const Column& column) { return lower(column.name) == lower(name); });
    if (found == columns.end()) {
      throw UsageError("--output: '" + name + "' is no column; there are " + names_of_columns());
    }
    chosen.push_back(found);
  }
  if (chosen.empty()) throw UsageError("--output: names no column");
  return chosen;
}

std::string flags_of(const Properties& properties) {
  std::vector<std::string> flags;
  for (const auto& [name, flag] :
       {std::pair("ReadOnly", "ro"), {"DirectIO", "dio"}, {"Autoclear", "autoclear"}}) {
    if (get<bool>(properties, name)) flags.emplace_back(flag);
  }
  return join(flags, ",");
}

std::string text_of(const Json& json) {
  if (const auto* text = std::get_if<std::string>(&json.value())) return loop::printable(*text);
  if (const auto* number = std::get_if<uint64_t>(&json.value())) return std::to_string(*number);
  if (const auto* truth = std::get_if<bool>(&json.value())) return *truth ? "yes" : "no";
  std::vector<std::string> parts;
  if (const auto* items = std::get_if<Json::Array>(&json.value())) {
    for (const Json& item : *items) parts.push_back(text_of(item));
  }
  return join(parts, ",");
}

class Listing {
 public:
  Listing(bool human, bool remote) : human_(human), remote_(remote) {}

  std::string cell(const Column& column, const DeviceFacts& facts) const {
    const std::string text = text_in(column, facts);
    return text.empty() ? "-" : text;
  }

  Json json(const Column& column, const DeviceFacts& facts) const {
    switch (column.kind) {
      case Kind::flags:
        return flags_of(facts.properties);
      case Kind::health:
        return health_of(facts.properties).word;
      case Kind::plain:
      case Kind::bytes:
      case Kind::partitions:
      case Kind::owner:
      case Kind::file:
        break;
    }
    return to_json(column.property, facts.properties.at(sdbus::PropertyName(column.property)));
  }

 private:
  std::string text_in(const Column& column, const DeviceFacts& facts) const {
    switch (column.kind) {
      case Kind::bytes:
        if (human_) return human_size(get<uint64_t>(facts.properties, column.property));
        break;
      case Kind::partitions:
        return std::to_string(facts.partitions.size());
      case Kind::owner:
        return owner_of(facts.properties, remote_);
      case Kind::file: {
        const bool deleted = get<bool>(facts.properties, "BackingFileDeleted");
        return text_of(json(column, facts)) + (deleted ? " (deleted)" : "");
      }
      case Kind::plain:
      case Kind::flags:
      case Kind::health:
        break;
    }
    return text_of(json(column, facts));
  }

  bool human_;
  bool remote_;
};

std::vector<DeviceFacts> chosen_devices(Session& session, const std::vector<std::string>& names) {
  std::set<sdbus::ObjectPath> wanted;
  for (const std::string& name : names) {
    for (const NamedDevice& device : find_devices(session, name)) wanted.insert(device.object);
  }
  std::vector<DeviceFacts> chosen;
  for (auto& [number, facts] : read_devices(session)) {
    if (names.empty() || wanted.contains(facts.object)) chosen.push_back(std::move(facts));
  }
  return chosen;
}

void print_json(const std::vector<DeviceFacts>& devices, const std::vector<const Column*>& shown,
                const Listing& listing, JsonMode mode) {
  Json::Array array;
  for (const DeviceFacts& facts : devices) {
    Json::Object object;
    for (const Column* column : shown) object.emplace_back(lower(column->name), listing.json(*column, facts));
    array.emplace_back(std::move(object));
  }
  print(array, mode);
}

void print_table(const std::vector<DeviceFacts>& devices, const std::vector<const Column*>& shown,
                 const Listing& listing, bool legend) {
  std::vector<Table::Column> titles;
  for (const Column* column : shown) titles.push_back({column->name, column->right});
  Table table(titles);
  for (const DeviceFacts& facts : devices) {
    std::vector<std::string> row;
    for (const Column* column : shown) row.push_back(listing.cell(*column, facts));
    table.add(std::move(row));
  }
  table.print(legend);
}

int run(const Invocation& invocation) {
  const JsonMode mode = json_mode(invocation);
  const auto wish = invocation.value("output");
  if (wish == "help") {
    for (const Column& column : columns) std::puts(column.name);
    return EXIT_SUCCESS;
  }
  // A program takes what it needs.
  const std::vector<const Column*> shown = parse_columns(wish                    ? *wish
                                                         : mode == JsonMode::off ? default_columns
                                                                                 : "all");
  Session session(invocation);
  const std::vector<DeviceFacts> devices = chosen_devices(session, invocation.names());
  const Listing listing(output_is_terminal() && !invocation.has("bytes"), session.is_remote());
  const Pager pager(invocation);
  if (mode == JsonMode::off) {
    print_table(devices, shown, listing, !invocation.has("no-legend"));
  } else {
    print_json(devices, shown, listing, mode);
  }
  return EXIT_SUCCESS;
}

}  // namespace

const Verb list_verb{"list", "[DEVICE…]", "List attached loop devices, whoever attached them (the default)",
                     options, run};

}  // namespace loopctl
