// SPDX-License-Identifier: LGPL-2.1-or-later
#include <systemd/sd-bus.h>

#include "tests/bench/benchmarks.hpp"

namespace loopd_bench {
namespace {

using bus_test::UDisks;

// sd-bus answers it in the service, before any code of the service's own.
Message new_empty_call(const Caller& caller, const char* destination = bus_test::service_name) {
  return caller.new_call(bus_test::root_path, "org.freedesktop.DBus.Peer", "Ping", destination);
}

Message new_get(const Caller& caller, const std::string& object, const char* interface, const char* name,
                const char* destination = bus_test::service_name) {
  Message message = caller.new_call(object, bus_test::properties_interface, "Get", destination);
  sd_bus_message_append(message.get(), "ss", interface, name);
  return message;
}

}  // namespace

void add_query_benchmarks(Stage& stage) {
  const Caller& root = stage.root();
  const Repetitions many{500};
  const Repetitions some{30};
  // What was measured before is still at work in udev.
  add("round-trip/loopd", many, [&stage, &root] {
    stage.quiet();
    return root.time(new_empty_call(root));
  });
  add("property/loopd", many, [&stage, &root] {
    stage.quiet();
    return root.time(new_get(root, stage.some_device(), bus_test::device_interface, "BackingFile"));
  });
  add("list-all/loopd", some, [&stage, &root] {
    stage.quiet();
    return root.time(
        root.new_call(bus_test::root_path, bus_test::object_manager_interface, "GetManagedObjects"));
  });
  if (!stage.has_udisks()) return;
  add("property/udisks", many, [&stage, &root] {
    stage.quiet();
    const std::string object = "/org/freedesktop/UDisks2/block_devices/" +
                               stage.some_device().substr(stage.some_device().rfind('/') + 1);
    return root.time(new_get(root, object, "org.freedesktop.UDisks2.Loop", "BackingFile", UDisks::name));
  });
  add("list-all/udisks", some, [&stage, &root] {
    stage.quiet();
    return root.time(root.new_call("/org/freedesktop/UDisks2", bus_test::object_manager_interface,
                                   "GetManagedObjects", UDisks::name));
  });
}

}  // namespace loopd_bench
