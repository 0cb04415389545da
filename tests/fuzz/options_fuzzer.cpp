// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Dictionaries of options, read from a message and done with a kernel that is
// simulated: attach, resize and remove, without a connection and its threads.
#include <fcntl.h>
#include <sdbus-c++/sdbus-c++.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/loop_manager.hpp"
#include "core/removal.hpp"
#include "core/resizing.hpp"
#include "dbus/options.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/option_bytes.hpp"
#include "tests/support/image.hpp"

namespace loop::testing {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t image_size = 1 * mib;

template <typename Number>
Number number_of(Bytes& bytes) {
  std::string taken = bytes.take(sizeof(Number));
  taken.resize(sizeof(Number));
  Number value;
  std::memcpy(&value, taken.data(), sizeof value);
  return value;
}

void append_value(sdbus::Message& message, const std::string& type, Bytes& bytes) {
  if (type == "y") message << number_of<uint8_t>(bytes);
  if (type == "n") message << number_of<int16_t>(bytes);
  if (type == "q") message << number_of<uint16_t>(bytes);
  if (type == "b") message << ((bytes.byte() & 1) != 0);
  if (type == "i") message << number_of<int32_t>(bytes);
  if (type == "u") message << number_of<uint32_t>(bytes);
  if (type == "x") message << number_of<int64_t>(bytes);
  if (type == "t") message << number_of<uint64_t>(bytes);
  if (type == "d") message << number_of<double>(bytes);
  if (type == "s") message << bytes.text();
  if (type == "o") message << sdbus::ObjectPath(bytes.text());
  if (type == "g") message << sdbus::Signature(bytes.text());
  if (type == "h") message << sdbus::UnixFd(STDERR_FILENO);
  if (type == "ay") message << std::vector<uint8_t>(bytes.byte());
  if (type == "as") message << std::vector<std::string>{bytes.text(), bytes.text()};
  if (type == "v") message << sdbus::Variant(uint32_t{bytes.byte()});
}

void append_entry(sdbus::Message& message, Bytes& bytes) {
  const std::string key = bytes.key();
  const std::string type = bytes.type();
  message.openDictEntry("sv");
  message << key;
  message.openVariant(type.c_str());
  append_value(message, type, bytes);
  message.closeVariant();
  message.closeDictEntry();
}

// Nothing: no library would send it.
std::optional<loopd::Options> options_in(Bytes bytes) {
  loopd::Options options;
  try {
    sdbus::PlainMessage message = sdbus::createPlainMessage();
    message.openContainer("{sv}");
    while (!bytes.empty()) append_entry(message, bytes);
    message.closeContainer();
    message.seal();
    message.rewind(true);
    message >> options;
  } catch (const sdbus::Error&) {
    return std::nullopt;
  }
  return options;
}

// What a decoder throws is the caller's to read.
template <typename Decode>
auto decoded(Decode decode, const loopd::Options& options) -> std::optional<decltype(decode(options))> {
  try {
    return decode(options);
  } catch (const sdbus::Error& error) {
    must(error.getName() == "org.freedesktop.DBus.Error.InvalidArgs", "bad options are invalid arguments");
    must(!error.getMessage().empty(), "an error says what is wrong");
  }
  return std::nullopt;
}

void use(LoopManager& manager, const DeviceSnapshot& device, const loopd::Options& options) {
  if (const auto resizing = decoded(loopd::decode_resize_options, options)) {
    try {
      const DeviceSizes sizes = resize(manager.kernel(), device.number, device.disk_sequence, *resizing);
      must(sizes.after <= image_size, "a device is no longer than its file");
    } catch (const Error& error) {
      must(error.code() == Errc::invalid_argument || error.code() == Errc::would_truncate,
           "only what cannot be, or would cut, is refused");
    }
  }
  const auto removing = decoded(loopd::decode_remove_options, options);
  RemovalOptions removal = removing ? removing->removal : RemovalOptions();
  remove(manager, device.number, device.disk_sequence, removal, 0ms);
}

void attach(loopd::AttachOptions options, int file, const loopd::Options& others) {
  FakeLoopKernel kernel;
  LoopManager manager(kernel);
  options.request.file = UniqueFd(::fcntl(file, F_DUPFD_CLOEXEC, 0));
  try {
    Attachment attachment = manager.attach(options.request);
    const DeviceSnapshot device = attachment.snapshot();
    must(device.offset == options.request.offset, "the device is what was asked for");
    must(device.read_only == options.request.read_only, "the device is what was asked for");
    attachment.commit();
    use(manager, device, others);
  } catch (const Error& error) {
    must(error.code() == Errc::invalid_argument, "only values that cannot be are refused");
  }
  must(kernel.bound_numbers().empty() && kernel.open_nodes() == 0 && kernel.open_controls() == 0,
       "nothing is left");
}

}  // namespace
}  // namespace loop::testing

// The first byte says how long the dictionary of the attach is; the rest is that of the changes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loop::testing;
  static const loop::UniqueFd file = memory_file(image_size);
  if (size == 0) return 0;
  const std::string_view bytes = as_text(data + 1, size - 1);
  const auto asked = options_in(Bytes(bytes.substr(0, data[0])));
  const auto changes = options_in(Bytes(bytes.substr(std::min<size_t>(data[0], bytes.size()))));
  if (!asked || !changes) return 0;
  if (auto options = decoded(loopd::decode_attach_options, *asked))
    attach(std::move(*options), file.get(), *changes);
  return 0;
}
