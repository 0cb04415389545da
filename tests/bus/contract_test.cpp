// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The objects are what dbus/org.example.Loop1.xml says.
#include <algorithm>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

// Each member of an interface on a line: what a client can see of it.
using Interface = std::set<std::string>;

std::map<std::string, Interface> interfaces_in(std::string xml) {
  for (size_t at = 0; (at = xml.find("<!--", at)) != std::string::npos;) {
    xml.erase(at, xml.find("-->", at) + 3 - at);
  }
  std::map<std::string, Interface> interfaces;
  std::string interface;
  std::string member;
  const auto finish = [&] {
    if (!member.empty()) interfaces[interface].insert(member);
    member.clear();
  };
  const std::regex tag("<(/?)(\\w+)([^>]*)>");
  const auto attribute = [](const std::string& in, const std::string& name) {
    std::smatch match;
    return std::regex_search(in, match, std::regex(name + "=\"([^\"]*)\"")) ? match[1].str() : std::string();
  };
  for (std::sregex_iterator found(xml.begin(), xml.end(), tag), end; found != end; ++found) {
    const bool closing = (*found)[1].length() > 0;
    const std::string name = (*found)[2];
    const std::string attributes = (*found)[3];
    const bool empty = attributes.ends_with('/');
    if (name == "interface" && !closing) interface = attribute(attributes, "name");
    if (name == "method" || name == "signal" || name == "property") {
      if (!closing) {
        member = name + " " + attribute(attributes, "name") + " " + attribute(attributes, "type") + " " +
                 attribute(attributes, "access");
      }
      if (closing || empty) finish();
    }
    if (name == "arg" && !closing) {
      const std::string direction = attribute(attributes, "direction");
      member += " (" + attribute(attributes, "type") + " " + attribute(attributes, "name") + " " +
                (direction.empty() ? "out" : direction) + ")";
    }
    if (name == "annotation" &&
        attribute(attributes, "name") == "org.freedesktop.DBus.Property.EmitsChangedSignal") {
      member += " emits " + attribute(attributes, "value");
    }
  }
  return interfaces;
}

class Contract : public Bus {
 protected:
  Contract() {
    std::ifstream file(LOOPD_SOURCE_DIR "/dbus/org.example.Loop1.xml");
    std::ostringstream content;
    content << file.rdbuf();
    contract_ = interfaces_in(content.str());
  }

  std::map<std::string, Interface> introspect(const std::string& object) {
    const Reply reply = root().call(
        {.object = object, .interface = "org.freedesktop.DBus.Introspectable", .member = "Introspect"});
    EXPECT_TRUE(succeeds(reply));
    return interfaces_in(reply.ok() ? reply.values.at(0).text : std::string());
  }

  std::set<std::string> nodes_of(const std::string& object) {
    const Reply reply = root().call(
        {.object = object, .interface = "org.freedesktop.DBus.Introspectable", .member = "Introspect"});
    EXPECT_TRUE(succeeds(reply));
    const std::string xml = reply.ok() ? reply.values.at(0).text : std::string();
    std::set<std::string> nodes;
    const std::regex child("<node name=\"([^\"]*)\"");
    for (std::sregex_iterator found(xml.begin(), xml.end(), child), end; found != end; ++found) {
      nodes.insert((*found)[1]);
    }
    return nodes;
  }

  // GetAll gives the contract's properties, with their types, and no other.
  void expect_properties(const std::string& object, const std::string& interface) {
    Interface shown;
    const auto type_of = [](const Value& value) {
      return value.type == 'a' ? "a" + value.element : std::string(1, value.type);
    };
    for (const Value& entry : properties_of(object, interface).items) {
      shown.insert(entry.items.at(0).text + " " + type_of(entry.items.at(1)));
    }
    Interface expected;
    for (const std::string& member : contract_[interface]) {
      std::istringstream words(member);
      std::string kind, name, type;
      words >> kind >> name >> type;
      if (kind == "property") expected.insert(name + " " + type);
    }
    EXPECT_EQ(shown, expected);
  }

  std::map<std::string, Interface> contract_;
};

TEST_F(Contract, HasThreeInterfaces) {
  EXPECT_EQ(contract_.size(), 3U);
  for (const char* name : {manager_interface, device_interface, partition_interface}) {
    EXPECT_GE(contract_[name].size(), 9U) << name;
  }
}

TEST_F(Contract, IsWhatTheManagerShows) {
  auto shown = introspect(root_path);
  EXPECT_EQ(shown[manager_interface], contract_[manager_interface]);
  EXPECT_TRUE(shown.contains(object_manager_interface));
  EXPECT_TRUE(shown.contains(properties_interface));
}

TEST_F(Contract, IsWhatADeviceAndAPartitionShow) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  EXPECT_EQ(introspect(object)[device_interface], contract_[device_interface]);
  EXPECT_EQ(introspect(object + "/p1")[partition_interface], contract_[partition_interface]);
  // Children alone, not theirs.
  EXPECT_FALSE(nodes_of(root_path).contains(object.substr(object.rfind('/') + 1) + "/p1"));
  EXPECT_TRUE(nodes_of(root_path).contains(object.substr(object.rfind('/') + 1)));
  EXPECT_EQ(nodes_of(object), (std::set<std::string>{"p1", "p2", "p3", "p4", "p5"}));
}

TEST_F(Contract, NamesEveryPropertyThatIsThere) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  expect_properties(root_path, manager_interface);
  expect_properties(object, device_interface);
  expect_properties(object + "/p1", partition_interface);
}

TEST_F(Contract, EveryMethodCanBeCalled) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  for (const auto& [interface, members] : contract_) {
    for (const std::string& member : members) {
      if (!member.starts_with("method ")) continue;
      const std::string name = member.substr(7, member.find(' ', 7) - 7);
      // With one argument too many: it is known, and the call is refused for its arguments.
      const Reply reply = root().call({.object = interface == manager_interface ? root_path : object,
                                       .interface = interface,
                                       .member = name,
                                       .arguments = {u32(1), u32(2), u32(3)}});
      EXPECT_TRUE(fails_with(reply, invalid_args)) << name;
    }
  }
}

TEST_F(Contract, ManagerPropertiesAreThere) {
  const Value all = properties_of(root_path, manager_interface);
  EXPECT_FALSE(all.at("Version").text.empty());
  EXPECT_GT(all.at("MaxDevicesPerUser").number, 0U);
  const std::vector<std::string> supported = all.at("SupportedOptions").texts();
  const std::set<std::string> options(supported.begin(), supported.end());
  for (const char* option : {"offset", "size-limit", "block-size", "read-only", "partition-scan", "direct-io",
                             "reference", "number"}) {
    EXPECT_TRUE(options.contains(option)) << option;
  }
}

TEST_F(Contract, EverySupportedOptionIsKnownToAttachAndNoOther) {
  const ScratchFile file(MiB);
  std::vector<std::string> known = properties_of(root_path, manager_interface).at("SupportedOptions").texts();
  for (const std::string& option : known) {
    // Known, but of a type that none has.
    EXPECT_TRUE(fails_with(root().attach(file.fd(), {{option, path("/")}}), invalid_args, option));
  }
  const std::string message = root().attach(file.fd(), {{"no-such-option", path("/")}}).message;
  const std::string of_known = root().attach(file.fd(), {{known.at(0), path("/")}}).message;
  EXPECT_NE(message.substr(message.find(':') + 1), of_known.substr(of_known.find(':') + 1))
      << "an unknown option is told like a wrong type";
}

TEST_F(Contract, ListDevicesIsSortedByNumber) {
  const ScratchFile file(MiB);
  const unsigned low = own_number();
  const unsigned high = own_number();
  for (const unsigned number : {high, low}) {
    ASSERT_FALSE(attach(file, {{"number", u32(number)},
                               {"read-only", boolean(true)},
                               {"reference", text("sorted-" + std::to_string(number))}})
                     .empty());
  }
  const Reply reply = root().manager("ListDevices");
  ASSERT_TRUE(succeeds(reply));
  std::vector<unsigned> numbers;
  for (const Value& device : reply.values.at(0).items) {
    numbers.push_back(number_of(device.items.at(0).text));
    if (numbers.back() == low) {
      EXPECT_EQ(device.items, (std::vector<Value>{path(object_of(low)), text(node_of(low)), text(file.path()),
                                                  text("sorted-" + std::to_string(low))}));
    }
  }
  EXPECT_TRUE(std::is_sorted(numbers.begin(), numbers.end()));
  EXPECT_GE(numbers.size(), 2U);
}

TEST_F(Contract, BusctlShowsTheTree) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const CommandResult tree =
      run({"busctl", "--address=" + stack().address(), "tree", "--list", service_name});
  EXPECT_EQ(tree.status, 0);
  EXPECT_NE(tree.output.find(object + "\n"), std::string::npos) << tree.output;
  const CommandResult removed = run(
      {"busctl", "--address=" + stack().address(), "call", service_name, object, device_interface, "Remove"});
  EXPECT_EQ(removed.status, 0) << removed.output;
  EXPECT_FALSE(is_attached(number_of(object)));
}

}  // namespace
}  // namespace bus_test
