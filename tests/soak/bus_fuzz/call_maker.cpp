// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/bus_fuzz/call_maker.hpp"

#include "tests/bus/bus_client.hpp"

namespace soak {
namespace {

enum MessageFlag : uint8_t { no_reply_expected = 1, no_auto_start = 2, allow_interactive_authorization = 4 };

constexpr size_t fixed_size = 16;  // of a header

void overwrite(std::string& bytes, size_t at, uint32_t value) {
  if (at + sizeof value > bytes.size()) return;
  bytes.replace(at, sizeof value, reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

CallMaker::CallMaker(Chance& chance, const Territory& territory, const Interface& interface, WildFiles& files,
                     Values::Setting setting)
    : chance_(chance),
      territory_(territory),
      interface_(interface),
      values_(chance, territory, interface, files, setting) {
  for (size_t i = 0; i < interface.methods.size(); ++i) {
    if (interface.methods[i].name.starts_with("Attach")) attaching_.push_back(static_cast<int>(i));
  }
}

FuzzCall CallMaker::make(uint32_t serial, bool to_peer) {
  Draft made = draft();
  if (!to_peer) made.header.destination = bus_test::service_name;
  if (chance_.one_in(16)) made.header.flags |= no_reply_expected;
  if (chance_.one_in(8)) made.header.flags |= no_auto_start;
  if (chance_.one_in(4)) made.header.flags |= allow_interactive_authorization;
  FuzzCall call;
  call.files = values_.take_descriptors();
  call.member = made.header.member;
  call.method = made.method;
  call.is_answered =
      made.header.type == loop::testing::method_call && (made.header.flags & no_reply_expected) == 0;
  // Before a bus such bytes tell of the bus.
  call.is_broken = chance_.one_in(to_peer ? 8 : 60);
  // Without a bus in between: libsystemd (252) never closes those that come with a message that is
  // none. It is root's own service whose descriptors a peer could use up so.
  if (call.is_broken && to_peer) call.files.clear();
  auto descriptors = static_cast<uint32_t>(call.files.size());
  if (call.is_broken && chance_.one_in(6)) descriptors += static_cast<uint32_t>(chance_.between(1, 300));
  call.bytes = loop::testing::call_bytes(made.header, serial, made.body.bytes, descriptors);
  if (call.is_broken) break_bytes(call.bytes, made.body.bytes.size());
  return call;
}

CallMaker::Draft CallMaker::draft() {
  switch (chance_.below(16)) {
    case 0:
    case 1:
      return call_of_others_signature();
    case 2:
      return call_of_nothing();
    case 3:
    case 4:
      return property_call();
    case 5:
      if (chance_.one_in(3)) return other_message();
      [[fallthrough]];
    default:
      return declared_call();
  }
}

int CallMaker::pick_method() {
  if (chance_.one_in(4)) return chance_.pick(attaching_);
  return static_cast<int>(chance_.below(interface_.methods.size()));
}

std::string CallMaker::object_for(ObjectKind kind) {
  switch (kind) {
    case ObjectKind::root:
      return bus_test::root_path;
    case ObjectKind::device:
      return territory_.device(chance_);
    case ObjectKind::partition:
      return territory_.partition(chance_);
  }
  return {};
}

CallMaker::Draft CallMaker::declared_call() {
  Draft made;
  made.method = pick_method();
  const Method& method = interface_.methods[static_cast<size_t>(made.method)];
  made.header = {object_for(method.object), method.interface, method.name, {}, method.signature};
  if (chance_.one_in(20)) made.header.interface.clear();
  values_.let_handles_be_wild(chance_.one_in(16));
  values_.write(made.body, method.signature, expectation_of(method.name));
  values_.let_handles_be_wild(false);
  return made;
}

// What is written is what the header says; the method takes something else.
CallMaker::Draft CallMaker::call_of_others_signature() {
  Draft made;
  const Method& method = chance_.pick(interface_.methods);
  made.header = {object_for(method.object), method.interface, method.name, {}, {}};
  for (uint64_t left = chance_.below(5); left > 0; --left) made.header.signature += values_.signature();
  values_.let_handles_be_wild(chance_.one_in(4));
  values_.write(made.body, made.header.signature, expectation_of(method.name));
  values_.let_handles_be_wild(false);
  return made;
}

CallMaker::Draft CallMaker::call_of_nothing() {
  Draft made;
  const Method& method = chance_.pick(interface_.methods);
  made.header = {object_for(method.object), method.interface, method.name, {}, method.signature};
  switch (chance_.below(5)) {
    case 0:
      made.header.object = territory_.no_device(chance_);
      break;
    case 1:
      made.header.interface = chance_.pick(interface_.methods).interface;
      made.header.object = object_for(chance_.pick(interface_.methods).object);
      break;
    case 2:
      made.header.interface = "org.example.Loop1.X" + std::string(chance_.below(200), 'x');
      break;
    case 3:
      made.header.member = "X" + std::string(chance_.below(250), 'x');
      made.header.interface = chance_.one_in(2) ? "" : method.interface;
      break;
    default:
      made.header.object = territory_.no_device(chance_);
      made.header.interface.clear();
  }
  values_.write(made.body, made.header.signature, expectation_of(method.name));
  return made;
}

CallMaker::Draft CallMaker::property_call() {
  Draft made;
  const Property& property = chance_.pick(interface_.properties);
  made.header = {object_for(property.object), bus_test::properties_interface, "Get", {}, "ss"};
  const uint64_t kind = chance_.below(3);
  made.body.string(chance_.one_in(10) ? values_.text() : property.interface);
  if (kind == 0) {
    made.header.member = "GetAll";
    made.header.signature = "s";
  } else {
    made.body.string(chance_.one_in(10) ? values_.text() : property.name);
  }
  if (kind == 2) {
    made.header.member = "Set";
    made.header.signature = "ssv";
    write_new_value(made.body, property.type);
  }
  made.method = method_of(property.object, made.header);
  return made;
}

void CallMaker::write_new_value(loop::testing::MessageWriter& body, const std::string& type) {
  if (chance_.one_in(2)) return values_.write(body, "v", {});
  body.signature(type);
  values_.write(body, type, {});
}

int CallMaker::method_of(ObjectKind kind, const loop::testing::CallHeader& header) const {
  for (size_t i = 0; i < interface_.methods.size(); ++i) {
    const Method& method = interface_.methods[i];
    if (method.object == kind && method.interface == header.interface && method.name == header.member) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

// Nobody has asked for it.
CallMaker::Draft CallMaker::other_message() {
  Draft made = declared_call();
  made.method = -1;
  made.header.type = chance_.one_in(2) ? loop::testing::signal_message : loop::testing::method_return;
  if (made.header.interface.empty()) made.header.interface = bus_test::device_interface;
  if (made.header.type == loop::testing::method_return) {
    made.header.reply_serial = static_cast<uint32_t>(chance_.between(1, 100));
  }
  return made;
}

// The names in the header stay, or those of root's calls could become others' devices.
void CallMaker::break_bytes(std::string& bytes, size_t body_size) {
  const auto random = static_cast<uint32_t>(chance_.bits());
  switch (chance_.below(6)) {
    case 0:
      bytes.resize(chance_.between(1, bytes.size()));
      break;
    case 1:  // length of the body
      overwrite(bytes, 4, chance_.one_in(2) ? random : static_cast<uint32_t>(body_size) + 1);
      break;
    case 2:  // length of the fields
      overwrite(bytes, 12, chance_.one_in(2) ? random : static_cast<uint32_t>(chance_.below(64)));
      break;
    case 3:
      bytes[chance_.below(fixed_size)] = static_cast<char>(random);
      break;
    case 4:
      for (uint64_t left = chance_.between(1, 4); left > 0 && body_size > 0; --left) {
        bytes[bytes.size() - 1 - chance_.below(body_size)] = static_cast<char>(chance_.bits());
      }
      break;
    default:
      bytes = std::string(chance_.between(1, 64), static_cast<char>(random)) + bytes;
  }
}

}  // namespace soak
