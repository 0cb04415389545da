// SPDX-License-Identifier: LGPL-2.1-or-later
#include <array>
#include <cstdio>
#include <cstdlib>

#include "core/utf8.hpp"
#include "service/cli/all_verbs.hpp"
#include "service/cli/attach_options.hpp"
#include "service/cli/card.hpp"
#include "service/cli/facts.hpp"
#include "service/cli/failure.hpp"
#include "service/cli/image_file.hpp"
#include "service/cli/text.hpp"

namespace loopctl {
namespace {

constexpr std::array options =
    concat(attach_options,
           std::array{Option{"bytes", 'b', nullptr, "Show sizes in bytes, on a terminal, too"}, json_option});

std::string fact(const BusOptions& facts, const char* name) { return facts.at(name).get<std::string>(); }

void print_card(const std::string& file, const BusOptions& facts, bool human) {
  const auto bytes = [&](const char* name) { return size_text(facts.at(name).get<uint64_t>(), human); };
  Card card(file);
  card.add("Format", fact(facts, "format"));
  card.add("Size", bytes("size"));
  card.add("Block size", std::to_string(facts.at("block-size").get<uint32_t>()));
  if (facts.at("wasted-bytes").get<uint64_t>() > 0)
    card.add("Not mapped", bytes("wasted-bytes") + " at the end");
  const std::string table = fact(facts, "table");
  card.add("Table", table.empty() ? "none" : table);
  if (!table.empty()) card.add("Partitions", std::to_string(facts.at("partitions").get<uint32_t>()));
  card.add("Direct I/O", facts.at("direct-io").get<bool>() ? "possible" : "not possible");
  for (const auto& device : facts.at("overlaps").get<std::vector<sdbus::ObjectPath>>()) {
    card.add("Overlaps", node_of_object(device));
  }
  card.print();
}

Json::Object json_of(const std::string& file, const BusOptions& facts) {
  Json::Object object{{"file", loop::escape_to_utf8(file)}};
  for (const auto& [name, value] : facts) object.emplace_back(name, to_json(value));
  return object;
}

int run(const Invocation& invocation) {
  const std::vector<std::string> files = invocation.names();
  const BusOptions wishes = bus_options(invocation);
  const JsonMode mode = json_mode(invocation);
  if (files.empty()) throw UsageError("needs a FILE");
  if (invocation.has("host")) throw UsageError("--host: a descriptor does not travel to another machine");
  Session session(invocation, Questions::possible);
  Json::Array array;
  for (const std::string& file : files) {
    loop::UniqueFd image = open_image(file, invocation.has("read-only"));
    BusOptions facts;
    try {
      facts = Manager(session).Probe(sdbus::UnixFd(image.release(), sdbus::adopt_fd), wishes);
    } catch (const sdbus::Error& error) {
      throw failure_of(file, error);
    }
    if (mode == JsonMode::off) {
      print_card(file, facts, output_is_terminal() && !invocation.has("bytes"));
    } else {
      array.emplace_back(json_of(file, facts));
    }
  }
  if (mode != JsonMode::off) print(array, mode);
  return EXIT_SUCCESS;
}

}  // namespace

const Verb probe_verb{"probe", "FILE…", "Tell what attaching these files would do, without doing it", options,
                      run};

}  // namespace loopctl
