// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/looptab.hpp"

#include <algorithm>
#include <array>
#include <climits>
#include <map>

#include "core/error.hpp"
#include "core/mounts.hpp"
#include "core/utf8.hpp"
#include "core/value_text.hpp"
#include "core/whole_number.hpp"

namespace loop {
namespace {

constexpr std::string_view blanks = " \t\r";

// What ends a line's reading. Does not leave this file.
struct Complaint {
  LoopTabProblem problem;
  std::string text;
};

[[noreturn]] void complain(LoopTabProblem problem, const std::string& text) {
  throw Complaint{problem, text};
}

std::string quoted(std::string_view text) { return "'" + escape_to_utf8(text) + "'"; }

// The piece of `rest` before a separator, which goes with it.
std::string_view take_until(std::string_view& rest, std::string_view separators) {
  const size_t end = std::min(rest.find_first_of(separators), rest.size());
  const std::string_view piece = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return piece;
}

std::vector<std::string_view> split_fields(std::string_view line) {
  std::vector<std::string_view> fields;
  while (!line.empty()) {
    const std::string_view field = take_until(line, blanks);
    if (!field.empty()) fields.push_back(field);
  }
  return fields;
}

bool is_name_character(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
         std::string_view("#+.:=@_-").find(c) != std::string_view::npos;
}

// A name becomes a link in /dev/disk/by-loop-ref as it is written: udev would
// replace any other character.
std::string why_no_name(std::string_view name) {
  if (name.empty()) return "is empty";
  if (name == "." || name == "..") return "cannot be the name of a link";
  if (!std::all_of(name.begin(), name.end(), is_name_character)) {
    return "may have only letters of ASCII, digits and #+.:=@_-";
  }
  if (name.size() > max_reference_length) {
    return "has more than " + std::to_string(max_reference_length) + " characters";
  }
  if (ends_like_partition_link(name)) return "ends like the link of a partition";
  return {};
}

std::string read_name(std::string_view field) {
  if (const std::string why = why_no_name(field); !why.empty()) {
    complain(LoopTabProblem::invalid_name, "name " + quoted(field) + ": " + why);
  }
  return std::string(field);
}

std::string read_image(std::string_view field) {
  const std::string path = undo_octal_escapes(field);
  const auto refuse = [&](const std::string& why) {
    complain(LoopTabProblem::invalid_image, "image " + quoted(path) + ": " + why);
  };
  if (path[0] != '/') refuse("the path is not absolute");
  if (path.size() >= PATH_MAX) refuse("the path is too long");
  // Units are UTF-8, and a line of theirs ends with a newline.
  if (!is_utf8(path)) refuse("the path is not valid UTF-8");
  if (std::any_of(path.begin(), path.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; })) {
    refuse("the path has control characters");
  }
  std::string image;
  for (std::string_view rest = path; !rest.empty();) {
    const std::string_view component = take_until(rest, "/");
    if (component == "..") refuse("the path has '..'");
    if (component.empty() || component == ".") continue;
    image += '/';
    image += component;
  }
  if (image.empty()) refuse("is no file");
  return image;
}

// One option: NAME or NAME=VALUE.
struct Option {
  std::string_view name;
  std::optional<std::string_view> value;

  [[noreturn]] void refuse(const std::string& why) const {
    complain(LoopTabProblem::invalid_value,
             std::string(name) + ": " + quoted(value.value_or("")) + " " + why);
  }

  std::string_view required_value() const {
    if (!value || value->empty()) {
      complain(LoopTabProblem::missing_value, std::string(name) + ": needs a value");
    }
    return *value;
  }

  void no_value() const {
    if (value) complain(LoopTabProblem::unexpected_value, std::string(name) + ": takes no value");
  }

  bool boolean() const {
    if (!value) return true;
    if (const auto truth = parse_truth(*value)) return *truth;
    refuse("is neither yes nor no");
  }

  // Bytes: 4096, 512K, 10M, 2GiB.
  uint64_t size() const {
    const auto size = parse_size(required_value());
    if (!size) refuse("is no size; give bytes, or a number with K, M, G or T");
    if (size->exceeds(LLONG_MAX)) refuse("is larger than any file");
    return size->bytes();
  }

  unsigned block_size() const {
    const uint64_t bytes = size();
    constexpr uint64_t largest = 65536;  // the largest page of any machine; the kernel knows this one's
    if (bytes != 0 && (bytes < 512 || bytes > largest || (bytes & (bytes - 1)) != 0)) {
      refuse("is no power of two from 512 to the size of a page");
    }
    return static_cast<unsigned>(bytes);
  }

  unsigned loop_number() const {
    unsigned number = 0;
    if (!is_whole_number(required_value(), number) || number > max_loop_number) {
      refuse("is no number up to " + std::to_string(max_loop_number));
    }
    return number;
  }

  std::string reference() const {
    const std::string_view text = required_value();
    if (const std::string why = why_no_name(text); !why.empty()) refuse(why);
    return std::string(text);
  }

  std::string time_span() const;
};

bool is_time_unit(std::string_view unit) {
  constexpr std::array<std::string_view, 30> known{
      "",    "us",     "usec",    "ms", "msec",  "s",      "sec",   "second", "seconds", "m",
      "min", "minute", "minutes", "h",  "hr",    "hour",   "hours", "d",      "day",     "days",
      "w",   "week",   "weeks",   "M",  "month", "months", "y",     "year",   "years",   "µs"};
  return std::find(known.begin(), known.end(), unit) != known.end();
}

// systemd.time(7): "infinity", or numbers with units, "1min30s"; a number alone is
// in seconds.
std::string Option::time_span() const {
  constexpr std::string_view digits = "0123456789";
  const std::string_view text = required_value();
  if (text == "infinity") return std::string(text);
  for (std::string_view rest = text; !rest.empty();) {
    const size_t number = std::min(rest.find_first_not_of("0123456789."), rest.size());
    const std::string_view amount = rest.substr(0, number);
    rest.remove_prefix(number);
    const size_t unit = std::min(rest.find_first_of(digits), rest.size());
    if (amount.find_first_of(digits) != 0 || std::count(amount.begin(), amount.end(), '.') > 1 ||
        !is_time_unit(rest.substr(0, unit))) {
      refuse("is no time span");
    }
    rest.remove_prefix(unit);
  }
  return std::string(text);
}

void apply_block_size(const Option& option, LoopTabOptions& options) {
  options.probe_block_size = option.value == "auto";
  options.block_size = options.probe_block_size ? 0 : option.block_size();
}

struct KnownOption {
  std::string_view name;
  void (*apply)(const Option& option, LoopTabOptions& options);
};

constexpr std::array known_options{
    KnownOption{"read-only", [](const Option& o, LoopTabOptions& to) { to.read_only = o.boolean(); }},
    KnownOption{"offset", [](const Option& o, LoopTabOptions& to) { to.offset = o.size(); }},
    KnownOption{"size-limit", [](const Option& o, LoopTabOptions& to) { to.size_limit = o.size(); }},
    KnownOption{"block-size", apply_block_size},
    KnownOption{"direct-io", [](const Option& o, LoopTabOptions& to) { to.direct_io = o.boolean(); }},
    KnownOption{"partition-scan",
                [](const Option& o, LoopTabOptions& to) { to.partition_scan = o.boolean(); }},
    KnownOption{"reference", [](const Option& o, LoopTabOptions& to) { to.reference = o.reference(); }},
    KnownOption{"number", [](const Option& o, LoopTabOptions& to) { to.number = o.loop_number(); }},
    KnownOption{"nofail", [](const Option& o, LoopTabOptions& to) { o.no_value(), to.nofail = true; }},
    KnownOption{"fail", [](const Option& o, LoopTabOptions& to) { o.no_value(), to.nofail = false; }},
    KnownOption{"noauto", [](const Option& o, LoopTabOptions& to) { o.no_value(), to.noauto = true; }},
    KnownOption{"auto", [](const Option& o, LoopTabOptions& to) { o.no_value(), to.noauto = false; }},
    KnownOption{"_netdev", [](const Option& o, LoopTabOptions& to) { o.no_value(), to.netdev = true; }},
    KnownOption{"x-initrd.attach",
                [](const Option& o, LoopTabOptions& to) { o.no_value(), to.attach_in_initrd = true; }},
    KnownOption{"x-systemd.device-timeout",
                [](const Option& o, LoopTabOptions& to) { to.device_timeout = o.time_span(); }},
    KnownOption{"defaults", [](const Option& o, LoopTabOptions&) { o.no_value(); }},
};

// Throws Complaint.
LoopTabOptions read_options(std::string_view text) {
  LoopTabOptions options;
  if (text == "-" || text == "none") return options;
  while (!text.empty()) {
    const std::string_view written = take_until(text, ",");
    if (written.empty()) continue;
    Option option{written, std::nullopt};
    if (const size_t equals = written.find('='); equals != std::string_view::npos) {
      option = {written.substr(0, equals), written.substr(equals + 1)};
    }
    const auto known =
        std::find_if(known_options.begin(), known_options.end(),
                     [&](const KnownOption& candidate) { return candidate.name == option.name; });
    if (known != known_options.end()) {
      known->apply(option, options);
    } else if (!option.name.starts_with("x-")) {
      // Not passed over: a misspelt read-only would be a writable device.
      complain(LoopTabProblem::unknown_option, quoted(option.name) + ": is no option");
    }
  }
  return options;
}

// Throws Complaint.
LoopTabEntry read_entry(const std::vector<std::string_view>& fields) {
  LoopTabEntry entry;
  entry.name = read_name(fields[0]);
  if (fields.size() < 2) {
    complain(LoopTabProblem::missing_image, "name " + quoted(entry.name) + ": has no image");
  }
  if (fields.size() > 3) {
    complain(LoopTabProblem::too_many_fields,
             quoted(fields[3]) + ": a fourth field has no meaning; a space in a path is written \\040");
  }
  entry.image = read_image(fields[1]);
  if (fields.size() == 3) entry.options_text = fields[2];
  entry.options = read_options(entry.options_text);
  return entry;
}

// What two lines cannot have both.
class Uniqueness {
 public:
  // Throws Complaint.
  void check(const LoopTabEntry& entry) {
    claim(names_, entry.name, entry.line, LoopTabProblem::duplicate_name, "name " + quoted(entry.name));
    claim(references_, entry.reference(), entry.line, LoopTabProblem::duplicate_reference,
          "reference " + quoted(entry.reference()));
    if (entry.options.number) {
      const std::string number = std::to_string(*entry.options.number);
      claim(numbers_, number, entry.line, LoopTabProblem::duplicate_number, "number " + number);
    }
  }

 private:
  using Owners = std::map<std::string, unsigned, std::less<>>;

  static void claim(Owners& owners, const std::string& what, unsigned line, LoopTabProblem problem,
                    const std::string& shown) {
    const auto [owner, is_new] = owners.emplace(what, line);
    if (!is_new) complain(problem, shown + ": is that of line " + std::to_string(owner->second) + " already");
  }

  Owners names_;
  Owners references_;
  Owners numbers_;
};

}  // namespace

std::string LoopTabEntry::link() const { return "/dev/disk/by-loop-ref/" + reference(); }

LoopTab parse_looptab(std::string_view text) {
  LoopTab table;
  Uniqueness uniqueness;
  for (unsigned line = 1; !text.empty(); ++line) {
    const std::vector<std::string_view> fields = split_fields(take_until(text, "\n"));
    if (fields.empty() || fields[0].starts_with('#')) continue;
    try {
      LoopTabEntry entry = read_entry(fields);
      entry.line = line;
      uniqueness.check(entry);
      table.entries.push_back(std::move(entry));
    } catch (const Complaint& complaint) {
      table.diagnostics.push_back({line, complaint.problem, complaint.text});
    }
  }
  return table;
}

LoopTabOptions parse_looptab_options(std::string_view text) {
  try {
    return read_options(text);
  } catch (const Complaint& complaint) {
    throw Error(Errc::invalid_argument, complaint.text);
  }
}

AttachRequest attach_request(const LoopTabOptions& options) {
  AttachRequest request;
  request.offset = options.offset;
  request.size_limit = options.size_limit;
  request.block_size = options.block_size;
  request.probe_block_size = options.probe_block_size;
  request.read_only = options.read_only;
  request.direct_io = options.direct_io;
  request.partition_scan = options.partition_scan ? PartitionScan::service : PartitionScan::none;
  request.reference = options.reference;
  request.number = options.number;
  return request;
}

}  // namespace loop
