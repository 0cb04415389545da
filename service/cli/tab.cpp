// SPDX-License-Identifier: LGPL-2.1-or-later
//
// loopctl tab: what looptab says, before a boot finds out. Needs no service.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "core/fstab.hpp"
#include "core/looptab.hpp"
#include "core/looptab_boot.hpp"
#include "core/utf8.hpp"
#include "service/cli/all_verbs.hpp"
#include "service/cli/text.hpp"
#include "units/looptab_units.hpp"

namespace loopctl {
namespace {

std::string from_environment(const char* variable, const char* otherwise) {
  const char* value = std::getenv(variable);
  return value ? value : otherwise;
}

std::optional<std::string> read_text(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.is_open() && !file.bad()) return text;
  if (errno == ENOENT) return std::nullopt;
  throw Failure(path, errno);
}

// What is said of the lines of one file.
class Report {
 public:
  void tell(unsigned line, const std::string& text) { remarks_.push_back({line, text}); }
  void warn(unsigned line, const std::string& text) {
    tell(line, "warning: " + text);
    ++warnings_;
  }
  void fail(unsigned line, const std::string& text) {
    tell(line, "error: " + text);
    ++errors_;
  }
  bool has_errors() const { return errors_ != 0; }

  // Line by line, as "FILE:LINE: remark".
  void print(const std::string& file) {
    std::stable_sort(remarks_.begin(), remarks_.end(),
                     [](const Remark& a, const Remark& b) { return a.line < b.line; });
    for (const Remark& remark : remarks_) {
      std::printf("%s:%u: %s\n", loop::printable(file).c_str(), remark.line,
                  loop::printable(remark.text).c_str());
    }
    std::printf("Errors: %u, warnings: %u\n", errors_, warnings_);
  }

 private:
  struct Remark {
    unsigned line;
    std::string text;
  };
  std::vector<Remark> remarks_;
  unsigned warnings_ = 0;
  unsigned errors_ = 0;
};

std::string description(const loop::LoopTabOptions& options) {
  std::string text = options.read_only ? "read-only" : "writable";
  if (options.offset != 0) text += ", from byte " + std::to_string(options.offset);
  if (options.size_limit != 0) text += ", at most " + human_size(options.size_limit);
  if (options.probe_block_size) text += ", blocks as in its partition table";
  if (options.block_size != 0) text += ", blocks of " + std::to_string(options.block_size);
  if (options.direct_io) text += ", direct I/O";
  if (options.partition_scan) text += ", with partitions";
  if (options.number) text += ", as /dev/loop" + std::to_string(*options.number);
  return text;
}

std::string occasion(const loop::LoopTabEntry& entry, bool on_network) {
  if (entry.options.noauto) return "when something needs it";
  const std::string when = on_network ? "at boot, with the network" : "at boot";
  return when + (entry.options.nofail ? ", which goes on without it" : "");
}

void tell_entry(Report& report, const loop::LoopTabEntry& entry, const std::vector<loop::FstabLine>& fstab) {
  const bool on_network = loop::is_on_network(entry, fstab);
  report.tell(entry.line, entry.name + ": attaches " + entry.image + " " + occasion(entry, on_network) +
                              " (" + description(entry.options) + ")");
  std::string uses;
  for (const loop::FstabLine* use : loop::uses_of(entry, fstab)) {
    uses += (uses.empty() ? "; for " : ", ") + (use->type == "swap" ? "swap" : use->mount_point);
  }
  report.tell(entry.line, entry.name + ": " + units::service_name(entry) + ", " + entry.link() + uses);
}

// An image that lies below a mount of fstab is there when that is mounted; nobody can
// tell now.
bool may_appear_later(const loop::LoopTabEntry& entry, const std::vector<loop::FstabLine>& fstab) {
  return entry.image.starts_with("/dev/") || !loop::mounts_above(entry.image, fstab).empty();
}

void check_image(Report& report, const loop::LoopTabEntry& entry, const std::vector<loop::FstabLine>& fstab) {
  struct stat st {};
  if (::stat(entry.image.c_str(), &st) < 0) {
    const std::string why = "image " + entry.image + ": " + std::generic_category().message(errno);
    const bool needed = !entry.options.nofail && !entry.options.noauto;
    if (may_appear_later(entry, fstab)) {
      report.warn(entry.line, why + "; it is to come with its mount or disk");
    } else if (needed) {
      report.fail(entry.line, why + ": the boot would fail here; nofail lets it go on");
    } else {
      report.warn(entry.line, why);
    }
    return;
  }
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
    report.fail(entry.line, "image " + entry.image + ": is neither a regular file nor a block device");
    return;
  }
  if (!S_ISREG(st.st_mode)) return;
  const auto size = static_cast<uint64_t>(st.st_size);
  if (entry.options.offset >= size) {
    report.fail(entry.line, "image " + entry.image + ": has only " + std::to_string(size) + " bytes" +
                                (entry.options.offset != 0 ? ", the offset is not inside it" : ""));
  }
}

// systemd goes by the path as it is written; a link on the way leads elsewhere.
void check_links(Report& report, const loop::LoopTabEntry& entry) {
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(entry.image.c_str(), nullptr), std::free);
  if (!real || entry.image == real.get() || entry.image.starts_with("/dev/")) return;
  report.warn(entry.line, "image " + entry.image + ": leads to " + real.get() +
                              ", whose mount is not waited for; give the path without symbolic links");
}

int check(const std::string& file) {
  const auto text = read_text(file);
  if (!text) throw Failure(file, "there is no such file", exit_not_found);
  const loop::LoopTab table = loop::parse_looptab(*text);
  const auto fstab =
      loop::parse_fstab(read_text(from_environment("SYSTEMD_FSTAB", loop::fstab_path)).value_or(""));

  Report report;
  for (const loop::LoopTabEntry& entry : table.entries) {
    tell_entry(report, entry, fstab);
    check_image(report, entry, fstab);
    check_links(report, entry);
  }
  for (const loop::LoopTabDiagnostic& diagnostic : table.diagnostics) {
    report.fail(diagnostic.line, diagnostic.text + "; the line is ignored");
  }
  for (const loop::BootFinding& finding : loop::find_boot_problems(table.entries, fstab)) {
    if (finding.hangs) {
      report.fail(finding.line, finding.text);
    } else {
      report.warn(finding.line, finding.text);
    }
  }
  report.print(file);
  return report.has_errors() ? exit_failed : EXIT_SUCCESS;
}

int run_check(const Invocation& invocation) {
  const std::vector<std::string> files = invocation.names();
  if (files.size() > 1) throw UsageError("checks one file");
  return check(files.empty() ? from_environment("SYSTEMD_LOOPTAB", loop::looptab_path) : files[0]);
}

const Verb check_verb{"check",
                      "[FILE]",
                      "Check looptab: say what each line does, and what would fail or hang a boot",
                      {},
                      run_check};

constexpr std::array subverbs{&check_verb};

}  // namespace

const Verb tab_verb{"tab", "", "Declared devices", {}, nullptr, subverbs};

}  // namespace loopctl
