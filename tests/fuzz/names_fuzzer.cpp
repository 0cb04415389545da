// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Words that others choose: sizes, truths, references, device paths and numbers,
// names of files.
#include <string>

#include "core/attach_request.hpp"
#include "core/attachment_records.hpp"
#include "core/device_name.hpp"
#include "core/error.hpp"
#include "core/snapshot_reading.hpp"
#include "core/utf8.hpp"
#include "core/value_text.hpp"
#include "dbus/names.hpp"
#include "dbus/object_path.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace loop::testing {
namespace {

void check_size(std::string_view text) {
  const auto size = parse_size(text);
  if (!size || size->exceeds(UINT64_MAX)) return;
  must(size->bytes() >> size->shift == size->number, "a size that is not too large is exact");
}

void check_reference(const std::string& text) {
  try {
    validate_reference(text);
  } catch (const Error& error) {
    must(error.code() == Errc::invalid_argument, "a bad reference is an invalid argument");
    return;
  }
  must(text.size() < 63 && is_utf8(text) && text.find('/') == text.npos, "a reference fits the kernel");
}

void check_device_path(const std::string& text) {
  try {
    loop_number_of(text);
  } catch (const Error& error) {
    must(error.code() == Errc::not_a_loop_device, "anything else is no loop device");
  }
}

void check_object_path(const std::string& text) {
  const auto parsed = loopd::parse_path(text);
  if (!parsed) return;
  std::string path = std::string(loopd::root_path) + "/loop" + std::to_string(parsed->device);
  if (parsed->partition) path += "/p" + std::to_string(*parsed->partition);
  must(path == text, "an object has one path");
}

void check_escapes(std::string_view text) {
  must(is_utf8(escape_to_utf8(text)), "what is escaped is UTF-8");
  const std::string name = encode_for_udev(text);
  must(is_utf8(name) && name.find_first_of(" \n\"'$`") == name.npos, "a name for udev is one word");
}

}  // namespace
}  // namespace loop::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loop::testing;
  const std::string text(as_text(data, size));
  check_size(text);
  loop::parse_truth(text);
  check_reference(text);
  check_device_path(text);
  check_device_path("/dev/" + text);
  check_object_path(text);
  check_object_path(std::string(loopd::root_path) + "/loop" + text);
  check_escapes(text);
  loop::parse_device_number(text);
  return 0;
}
