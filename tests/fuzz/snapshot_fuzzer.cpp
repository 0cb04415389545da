// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the kernel says of a device: sysfs, with the path of a file that somebody
// named, and the status, whose name field anybody writes.
#include <linux/loop.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "core/loop_kernel.hpp"
#include "core/snapshot_reading.hpp"
#include "core/utf8.hpp"
#include "tests/fakes/fake_loop_kernel.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace loop::testing {
namespace {

// Attributes are pieces of the bytes, each up to a zero, in the order in which they
// are asked for.
class BytesOfSysfs final : public FakeLoopKernel {
 public:
  explicit BytesOfSysfs(std::string_view bytes) : rest_(bytes) {}

  std::optional<std::string> attribute(unsigned, const char*) const override {
    if (rest_.empty()) return std::nullopt;
    const size_t end = std::min(rest_.find('\0'), rest_.size());
    std::string value(rest_.substr(0, end));
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    return value;
  }
  bool has_attribute(unsigned, const char*) const override { return !rest_.empty(); }

 private:
  mutable std::string_view rest_;
};

}  // namespace
}  // namespace loop::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loop::testing;
  loop_info64 info{};
  if (size < sizeof info) return 0;
  std::memcpy(&info, data, sizeof info);
  const BytesOfSysfs kernel(as_text(data + sizeof info, size - sizeof info));
  auto snapshot = loop::read_snapshot(kernel, 0);
  if (!snapshot) return 0;
  loop::apply_status(info, *snapshot);
  must(loop::is_utf8(snapshot->reference), "a reference can be shown");
  must(snapshot->reference.find('/') == std::string::npos, "a path is no reference");
  loop::refresh_volatile(kernel, *snapshot);
  loop::is_attached(kernel, 0, snapshot->disk_sequence);
  return 0;
}
