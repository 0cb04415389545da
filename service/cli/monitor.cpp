// SPDX-License-Identifier: LGPL-2.1-or-later
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "core/utf8.hpp"
#include "dbus/names.hpp"
#include "service/cli/all_verbs.hpp"
#include "service/cli/facts.hpp"
#include "service/cli/failure.hpp"
#include "service/cli/text.hpp"

namespace loopctl {
namespace {

constexpr std::array options{
    Option{"initial", 0, nullptr, "Begin with what is there already, as if it came"},
    json_option,
};

std::string text_of(const Json& json) {
  if (const auto* text = std::get_if<std::string>(&json.value())) return *text;
  if (const auto* items = std::get_if<Json::Array>(&json.value())) {
    std::vector<std::string> parts;
    for (const Json& item : *items) parts.push_back(text_of(item));
    return join(parts, ",");
  }
  return to_text(json, JsonMode::compact);
}

// The bytes of a name are in BackingFile too, and partitions have lines of their own.
bool is_told_otherwise(const std::string& property) {
  return property == "BackingFileBytes" || property == "Partitions";
}

// Events as lines, each out when it happens: whoever reads may be waiting for it.
class EventPrinter {
 public:
  explicit EventPrinter(JsonMode mode) : mode_(mode) {}

  // Of the watch itself.
  void note(const char* what) const { print_event(what, "", "", {}); }

  void added(const std::string& object, const Properties& properties) const {
    const auto file = properties.find(sdbus::PropertyName("BackingFile"));
    print_event("added", object, file == properties.end() ? "" : file->second.get<std::string>(), properties);
  }

  void removed(const std::string& object) const { print_event("removed", object, "", {}); }

  void changed(const std::string& object, Properties properties) const {
    std::erase_if(properties, [](const auto& property) { return is_told_otherwise(property.first); });
    std::vector<std::string> parts;
    for (const auto& [name, value] : properties) parts.push_back(name + "=" + text_of(to_json(value)));
    if (!parts.empty()) print_event("changed", object, join(parts, " "), properties);
  }

 private:
  void print_event(const char* what, const std::string& object, const std::string& detail,
                   const Properties& properties) const {
    if (mode_ == JsonMode::off) {
      std::string line = what;
      if (!object.empty())
        line += std::string(line.size() < 8 ? 8 - line.size() : 0, ' ') + " " + node_of_object(object);
      if (!detail.empty()) line += " " + loop::printable(detail);
      std::puts(line.c_str());
    } else {
      Json::Object event{{"event", what}};
      if (!object.empty()) event.emplace_back("device", node_of_object(object));
      if (!properties.empty()) event.emplace_back("properties", to_json(properties));
      print(event, mode_);
    }
    if (std::fflush(stdout) != 0) std::exit(exit_failed);
  }

  JsonMode mode_;
};

// What is known to be there: that the service ends and starts again is not the end of
// what it has published.
class Watch {
 public:
  explicit Watch(EventPrinter printer) : printer_(printer) {}

  void start(Session& session, bool initial) {
    subscribe(session);
    // Starts the service where the bus can, and fails where there is none.
    Objects now = read_objects();
    if (!initial) known_ = std::move(now);
    printer_.note("listening");
    if (initial) become(std::move(now));
  }

  // Without a bus in between the connection goes with the service.
  void pause() {
    printer_.note("stopped");
    signals_.reset();
    owner_.reset();
  }

  void resume(Session& session) {
    subscribe(session);
    Objects now = read_objects();
    printer_.note("started");
    become(std::move(now));
  }

 private:
  using Objects = std::map<std::string, Properties>;

  void subscribe(Session& session) {
    session_ = &session;
    std::string rule = std::string("type='signal',path_namespace='") + loopd::root_path + "'";
    if (!session.is_private()) {
      rule += std::string(",sender='") + loopd::bus_name + "'";
      owner_ = session.connection().addMatch(
          std::string("type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='") +
              loopd::bus_name + "'",
          [this](sdbus::Message message) { on_owner(message); }, sdbus::return_slot);
    }
    signals_ = session.connection().addMatch(
        rule, [this](sdbus::Message message) { on_signal(message); }, sdbus::return_slot);
  }

  // Devices and partitions; a device comes before its partitions, by name.
  Objects read_objects() {
    Objects objects;
    for (const auto& [path, interfaces] : Manager(*session_).GetManagedObjects()) {
      if (const Properties* properties = find_ours(interfaces)) objects[path] = *properties;
    }
    return objects;
  }

  static const Properties* find_ours(const Interfaces& interfaces) {
    for (const char* name : {loopd::device_interface, loopd::partition_interface}) {
      const auto found = interfaces.find(sdbus::InterfaceName(name));
      if (found != interfaces.end()) return &found->second;
    }
    return nullptr;
  }

  // Tells the difference to what was known.
  void become(Objects now) {
    for (auto known = known_.rbegin(); known != known_.rend(); ++known) {
      if (!is_same_attachment(known->second, now, known->first)) printer_.removed(known->first);
    }
    for (const auto& [object, properties] : now) {
      const auto before = known_.find(object);
      if (before == known_.end() || !is_same_attachment(before->second, now, object)) {
        printer_.added(object, properties);
      } else {
        tell_changes(object, before->second, properties);
      }
    }
    known_ = std::move(now);
  }

  // A number that another file has by now is another device; so are its partitions.
  bool is_same_attachment(const Properties& before, const Objects& now, const std::string& object) const {
    const auto after = now.find(object);
    if (after == now.end()) return false;
    const auto device = before.find(sdbus::PropertyName("Device"));
    if (device != before.end()) {
      const std::string owner = device->second.get<sdbus::ObjectPath>();
      const auto known = known_.find(owner);
      return known == known_.end() || is_same_attachment(known->second, now, owner);
    }
    return get<uint64_t>(before, "DiskSequence") == get<uint64_t>(after->second, "DiskSequence");
  }

  void tell_changes(const std::string& object, const Properties& before, const Properties& after) const {
    Properties changed;
    for (const auto& [name, value] : after) {
      const auto old = before.find(name);
      const bool same = old != before.end() && to_text(to_json(old->second), JsonMode::compact) ==
                                                   to_text(to_json(value), JsonMode::compact);
      if (!same) changed[name] = value;
    }
    printer_.changed(object, changed);
  }

  void on_owner(sdbus::Message& message) {
    std::string name;
    std::string before;
    std::string now;
    message >> name >> before >> now;
    if (!before.empty()) printer_.note("stopped");
    if (now.empty()) return;
    printer_.note("started");
    become(read_objects());
  }

  void on_signal(sdbus::Message& message) {
    const std::string_view member = message.getMemberName();
    if (member == "InterfacesAdded") return on_added(message);
    if (member == "InterfacesRemoved") return on_removed(message);
    if (member == "PropertiesChanged") return on_changed(message);
  }

  void on_added(sdbus::Message& message) {
    sdbus::ObjectPath object;
    Interfaces interfaces;
    message >> object >> interfaces;
    const Properties* properties = find_ours(interfaces);
    // What came while the objects were read is known already.
    if (properties && known_.emplace(object, *properties).second) printer_.added(object, *properties);
  }

  void on_removed(sdbus::Message& message) {
    sdbus::ObjectPath object;
    message >> object;
    if (known_.erase(object) > 0) printer_.removed(object);
  }

  void on_changed(sdbus::Message& message) {
    std::string interface;
    Properties changed;
    message >> interface >> changed;
    const auto known = known_.find(message.getPath());
    if (known == known_.end() ||
        (interface != loopd::device_interface && interface != loopd::partition_interface))
      return;
    for (const auto& [name, value] : changed) known->second[name] = value;
    printer_.changed(known->first, changed);
  }

  Session* session_ = nullptr;
  EventPrinter printer_;
  Objects known_;
  sdbus::Slot owner_;
  sdbus::Slot signals_;
};

int run(const Invocation& invocation) {
  const EventPrinter printer(json_mode(invocation));
  if (!invocation.names().empty()) throw UsageError("takes no arguments");
  auto session = std::make_unique<Session>(invocation);
  Watch watch(printer);
  watch.start(*session, invocation.has("initial"));
  for (;;) {
    try {
      session->connection().enterEventLoop();
      return EXIT_SUCCESS;
    } catch (const sdbus::Error&) {
      if (!session->is_private()) throw;
    }
    watch.pause();
    // The socket stays, and who connects to it has the service started again.
    session = std::make_unique<Session>(invocation);
    watch.resume(*session);
  }
}

}  // namespace

const Verb monitor_verb{"monitor", "", "Print devices and partitions as they come, change and go", options,
                        run};

}  // namespace loopctl
