// SPDX-License-Identifier: LGPL-2.1-or-later
#include <sys/types.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "dbus/names.hpp"
#include "service/cli/all_verbs.hpp"
#include "service/cli/attach_options.hpp"
#include "service/cli/command.hpp"
#include "service/cli/device_argument.hpp"
#include "service/cli/failure.hpp"
#include "service/cli/image_file.hpp"

namespace loopctl {
namespace {

constexpr std::array options = concat(
    attach_options,
    std::array{
        Option{"lease", 0, nullptr, "Keep it only while loopctl runs: until Ctrl-C, or while COMMAND runs"},
        Option{"path", 0, nullptr, "Let the service open FILE, with its rights instead of yours"},
        Option{"raw", 0, nullptr, "Even if it is an image of another format: qcow2, VMDK…"},
    });

constexpr std::array advice{
    Advice{loopd::error_name::overlap, "--reuse takes the device that is there"},
    Advice{loopd::error_name::not_writable, "--read-only attaches it read-only"},
    Advice{loopd::error_name::device_busy, "leave out --number to get a free one"},
};

struct Request {
  std::vector<std::string> files;
  BusOptions options;
  bool read_only;
  bool raw;
  bool lease;
  bool by_path;
};

Request parse(const Invocation& invocation) {
  Request request{.files = invocation.arguments(),
                  .options = bus_options(invocation),
                  .read_only = invocation.has("read-only"),
                  .raw = invocation.has("raw"),
                  .lease = invocation.has("lease"),
                  .by_path = invocation.has("path") || invocation.has("host")};
  if (!request.lease) request.files = invocation.names();
  if (request.files.empty()) throw UsageError("needs a FILE");
  for (const char* one : {"reference", "number"}) {
    if (request.files.size() > 1 && invocation.has(one)) {
      throw UsageError("--" + std::string(one) + ": only for one FILE");
    }
  }
  if (request.lease) request.options["lease"] = sdbus::Variant(true);
  return request;
}

sdbus::ObjectPath attach_by_path(Session& session, const std::string& file, const Request& request) {
  if (session.is_remote() && !file.starts_with('/')) {
    throw Failure(file, "is no absolute path; with --host give the whole path there", exit_usage);
  }
  return Manager(session).AttachPath(absolute_path(file), request.options);
}

sdbus::ObjectPath attach_open(Session& session, const std::string& file, const Request& request) {
  loop::UniqueFd image = open_image(file, request.read_only);
  if (!request.raw) refuse_other_formats(file, image.get());
  return Manager(session).Attach(sdbus::UnixFd(image.release(), sdbus::adopt_fd), request.options);
}

sdbus::ObjectPath attach(Session& session, const std::string& file, const Request& request) {
  try {
    return request.by_path ? attach_by_path(session, file, request) : attach_open(session, file, request);
  } catch (const sdbus::Error& error) {
    throw failure_of(file, error, advice);
  }
}

// The service does it, too, when this program has left the bus; so it is done when
// this program has ended.
void end_lease(Session& session, const sdbus::ObjectPath& device) {
  try {
    Device(session, device).Remove();
  } catch (const sdbus::Error& error) {
    complain(node_of_object(device) + ": " + error.getMessage() + "; it goes with its last user");
  }
}

int keep_lease(Session& session, const std::vector<sdbus::ObjectPath>& devices,
               const std::vector<std::string>& command) {
  int code = EXIT_SUCCESS;
  if (command.empty()) {
    wait_for_end();
  } else {
    code = run_command(command, {{"LOOPCTL_DEVICE", node_of_object(devices[0])}});
  }
  for (const sdbus::ObjectPath& device : devices) end_lease(session, device);
  return code;
}

int run(const Invocation& invocation) {
  const Request request = parse(invocation);
  Session session(invocation, Questions::possible);
  std::vector<sdbus::ObjectPath> devices;
  for (const std::string& file : request.files) {
    devices.push_back(attach(session, file, request));
    // The command's output is what is wanted then.
    if (!request.lease || invocation.command().empty()) std::puts(node_of_object(devices.back()).c_str());
  }
  if (!request.lease) return EXIT_SUCCESS;
  std::fflush(stdout);
  return keep_lease(session, devices, invocation.command());
}

}  // namespace

const Verb attach_verb{"attach", "FILE… [-- COMMAND…]", "Attach files and print their devices", options, run};

}  // namespace loopctl
