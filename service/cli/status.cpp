// SPDX-License-Identifier: LGPL-2.1-or-later
#include <algorithm>
#include <array>
#include <cstdlib>

#include "service/cli/all_verbs.hpp"
#include "service/cli/card.hpp"
#include "service/cli/device_argument.hpp"
#include "service/cli/facts.hpp"
#include "service/cli/failure.hpp"
#include "service/cli/text.hpp"
#include "service/cli/visible_holders.hpp"

namespace loopctl {
namespace {

constexpr std::array options{
    Option{"bytes", 'b', nullptr, "Show sizes in bytes, on a terminal, too"},
    json_option,
};

std::string flags_of(const Properties& properties) {
  std::vector<std::string> flags;
  for (const auto& [name, flag] : {std::pair("ReadOnly", "read-only"),
                                   {"DirectIO", "direct-io"},
                                   {"Autoclear", "autoclear"},
                                   {"PartitionScan", "partition-scan"}}) {
    if (get<bool>(properties, name)) flags.emplace_back(flag);
  }
  return flags.empty() ? "none" : join(flags, ", ");
}

std::string partition_text(const Properties& partition, bool human) {
  const auto size = [&](const char* name) {
    const auto bytes = get<uint64_t>(partition, name);
    return human ? human_size(bytes) : std::to_string(bytes);
  };
  std::string text = get<std::string>(partition, "DevPath") + "  " + size("Size") + " at " + size("Offset");
  for (const char* fact : {"Type", "UUID", "Name"}) {
    if (const auto value = get<std::string>(partition, fact); !value.empty()) {
      text += fact == std::string_view("Name") ? "  \"" + value + "\"" : "  " + value;
    }
  }
  return text;
}

class StatusCard {
 public:
  StatusCard(const DeviceFacts& facts, bool human) : facts_(facts), human_(human) {}

  void print(const std::vector<std::string>& holders, bool remote) {
    const Health health = health_of(facts_.properties);
    Card card(text("DevPath"), health.is_good ? Colour::good : Colour::bad);
    const std::string file = text("BackingFile");
    card.add("File", file.empty() ? "unknown" : file);
    card.add("Health", health.story, health.is_good ? Colour::none : Colour::bad);
    card.add("Size", size_text(number("Size"), human_));
    if (number("Offset") > 0) card.add("Offset", size_text(number("Offset"), human_));
    if (number("SizeLimit") > 0) card.add("Size limit", size_text(number("SizeLimit"), human_));
    card.add("Block size", std::to_string(get<uint32_t>(facts_.properties, "BlockSize")));
    card.add("Flags", flags_of(facts_.properties));
    card.add("Owner", owner_of(facts_.properties, remote));
    if (!text("Lease").empty()) card.add("Lease", text("Lease"));
    if (!text("Reference").empty()) card.add("Reference", text("Reference"));
    card.add("Identity", device_number(number("Dev")) + ", disk sequence " +
                             std::to_string(number("DiskSequence")) + "; file " +
                             device_number(number("BackingDev")) + " inode " +
                             std::to_string(number("BackingInode")));
    for (const auto& link : get<std::vector<std::string>>(facts_.properties, "Symlinks"))
      card.add("Links", link);
    for (const auto& [n, partition] : facts_.partitions) {
      card.add("Partitions", partition_text(partition, human_));
    }
    for (const std::string& holder : holders) card.add("Used by", holder);
    card.print();
  }

 private:
  std::string text(const char* name) const { return get<std::string>(facts_.properties, name); }
  uint64_t number(const char* name) const { return get<uint64_t>(facts_.properties, name); }

  const DeviceFacts& facts_;
  bool human_;
};

Json json_of(const DeviceFacts& facts, const std::vector<std::string>& holders) {
  auto object = std::get<Json::Object>(to_json(facts.properties).value());
  object.emplace_back("health", health_of(facts.properties).word);
  Json::Array partitions;
  for (const auto& [number, partition] : facts.partitions) partitions.push_back(to_json(partition));
  Json::Array texts;
  for (const std::string& holder : holders) texts.emplace_back(holder);
  for (auto& [name, value] : object) {
    if (name == "partitions") value = std::move(partitions);
  }
  object.emplace_back("used-by", std::move(texts));
  return object;
}

std::vector<DeviceFacts> chosen_devices(Session& session, const std::vector<std::string>& names) {
  std::vector<NamedDevice> wanted;
  for (const std::string& name : names) {
    for (const NamedDevice& device : find_devices(session, name)) wanted.push_back(device);
  }
  auto devices = read_devices(session);
  std::vector<DeviceFacts> chosen;
  if (names.empty()) {
    for (auto& [number, facts] : devices) chosen.push_back(std::move(facts));
  }
  for (const NamedDevice& device : wanted) {
    const auto found = std::find_if(devices.begin(), devices.end(),
                                    [&](const auto& entry) { return entry.second.object == device.object; });
    if (found != devices.end()) chosen.push_back(found->second);
  }
  return chosen;
}

int run(const Invocation& invocation) {
  const JsonMode mode = json_mode(invocation);
  Session session(invocation);
  const std::vector<DeviceFacts> devices = chosen_devices(session, invocation.names());
  const bool human = output_is_terminal() && !invocation.has("bytes");
  const Pager pager(invocation);
  Json::Array array;
  for (const DeviceFacts& facts : devices) {
    const auto holders = visible_holders(session, get<uint32_t>(facts.properties, "Number"));
    if (mode == JsonMode::off) {
      StatusCard(facts, human).print(holders, session.is_remote());
    } else {
      array.push_back(json_of(facts, holders));
    }
  }
  if (mode != JsonMode::off) print(array, mode);
  return EXIT_SUCCESS;
}

}  // namespace

const Verb status_verb{"status", "[DEVICE…]", "Show all facts about devices, and who uses them", options,
                       run};

}  // namespace loopctl
