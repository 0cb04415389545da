// SPDX-License-Identifier: LGPL-2.1-or-later
//
// loopd-generator: turns looptab into units, as systemd.generator(7) wants it. Runs
// early in the boot and at each daemon-reload, and must neither wait nor fail for the
// sake of one line.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <system_error>

#include "core/fstab.hpp"
#include "core/looptab.hpp"
#include "core/looptab_boot.hpp"
#include "core/unique_fd.hpp"
#include "units/looptab_units.hpp"

namespace {

namespace fs = std::filesystem;

constexpr int exit_usage = 2;

std::string from_environment(const char* variable, const char* otherwise) {
  const char* value = std::getenv(variable);
  return value ? value : otherwise;
}

// Where systemd started it, to the kernel's log, as there may be no journal yet.
void warn(const std::string& message) {
  const std::string text = "loopd-generator: " + message + "\n";
  if (std::getenv("SYSTEMD_SCOPE")) {
    const loop::UniqueFd kmsg(::open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY));
    const std::string line = "<4>" + text;
    if (kmsg && ::write(kmsg.get(), line.data(), line.size()) == static_cast<ssize_t>(line.size())) return;
  }
  std::fputs(text.c_str(), stderr);
}

// Nothing where the file is not there.
std::optional<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    if (errno != ENOENT) warn("cannot read " + path + ": " + std::generic_category().message(errno));
    return std::nullopt;
  }
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// "loopd.looptab=no" on the kernel's command line; with "rd." before it, for the
// initrd alone. As systemd's own switches, the last one counts.
bool is_switched_off() {
  const bool in_initrd = fs::exists("/etc/initrd-release");
  const char* given = std::getenv("SYSTEMD_PROC_CMDLINE");
  std::istringstream words(given ? std::string(given) : read_text("/proc/cmdline").value_or(""));
  const std::set<std::string> no{"no", "0", "false", "off", "n", "f"};
  bool off = false;
  for (std::string word; words >> word;) {
    if (in_initrd && word.starts_with("rd.")) word.erase(0, 3);
    const std::string key = "loopd.looptab=";
    if (word.starts_with(key)) off = no.contains(word.substr(key.size()));
  }
  return off;
}

void write_file(const fs::path& directory, const units::GeneratedFile& file) {
  const fs::path path = directory / file.path;
  fs::create_directories(path.parent_path());
  if (file.is_link) {
    fs::create_symlink(file.content, path);
    return;
  }
  std::ofstream stream(path, std::ios::binary);
  stream << file.content;
  stream.close();
  if (!stream)
    throw fs::filesystem_error("cannot write", path, std::error_code(errno, std::generic_category()));
}

// Lines that wait for themselves would make the boot wait without an end.
std::set<unsigned> lines_in_cycles(const std::vector<loop::BootFinding>& findings) {
  std::set<unsigned> lines;
  for (const loop::BootFinding& finding : findings) {
    if (finding.problem == loop::BootProblem::cycle ||
        finding.problem == loop::BootProblem::image_below_own_mount) {
      lines.insert(finding.line);
    }
  }
  return lines;
}

int generate(const fs::path& directory) {
  const units::Surroundings surroundings{from_environment("SYSTEMD_LOOPTAB", loop::looptab_path),
                                         LOOPD_ATTACH_PROGRAM};
  const auto text = read_text(surroundings.looptab);
  if (!text || is_switched_off()) return EXIT_SUCCESS;
  const auto warn_of_line = [&](unsigned line, const std::string& what) {
    warn(surroundings.looptab + ":" + std::to_string(line) + ": " + what);
  };

  const loop::LoopTab table = loop::parse_looptab(*text);
  for (const loop::LoopTabDiagnostic& diagnostic : table.diagnostics) {
    warn_of_line(diagnostic.line, diagnostic.text + ", ignoring the line");
  }
  const auto fstab =
      loop::parse_fstab(read_text(from_environment("SYSTEMD_FSTAB", loop::fstab_path)).value_or(""));
  const auto findings = loop::find_boot_problems(table.entries, fstab);
  const std::set<unsigned> in_cycles = lines_in_cycles(findings);
  for (const loop::BootFinding& finding : findings) {
    if (!finding.hangs) continue;
    warn_of_line(finding.line,
                 finding.text + (in_cycles.contains(finding.line) ? ", ignoring the line" : ""));
  }

  int code = EXIT_SUCCESS;
  for (const loop::LoopTabEntry& entry : table.entries) {
    if (in_cycles.contains(entry.line)) continue;
    try {
      for (const auto& file : units::units_of(entry, loop::is_on_network(entry, fstab), surroundings)) {
        write_file(directory, file);
      }
    } catch (const fs::filesystem_error& error) {
      warn_of_line(entry.line, error.what());
      code = EXIT_FAILURE;
    }
  }
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  // Normal, early and late directory; the first is what looptab's units belong into.
  if (argc != 2 && argc != 4) {
    std::fputs("Usage: loopd-generator DIRECTORY [EARLY LATE]\n\nA generator for systemd; see looptab(5).\n",
               stderr);
    return exit_usage;
  }
  try {
    return generate(argv[1]);
  } catch (const std::exception& error) {
    warn(error.what());
    return EXIT_FAILURE;
  }
}
