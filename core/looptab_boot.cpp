// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/looptab_boot.hpp"

#include <algorithm>
#include <map>

#include "core/overlap.hpp"
#include "core/utf8.hpp"

namespace loop {
namespace {

bool is_all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_link_of(const LoopTabEntry& entry, const std::string& source) {
  const std::string link = entry.link();
  const std::string partition = link + "-part";
  return source == link ||
         (source.starts_with(partition) && is_all_digits(std::string_view(source).substr(partition.size())));
}

std::string fstab_place(const FstabLine& mount) {
  return "line " + std::to_string(mount.line) + " of fstab (" + escape_to_utf8(mount.mount_point) + ")";
}

// What each line's image waits for, followed through both files.
class Dependencies {
 public:
  Dependencies(const std::vector<LoopTabEntry>& entries, const std::vector<FstabLine>& fstab) {
    for (const LoopTabEntry& entry : entries) {
      for (const FstabLine* mount : mounts_above(entry.image, fstab)) {
        for (const LoopTabEntry& other : entries) {
          if (is_link_of(other, mount->source)) needs_[&entry].push_back({&other, mount});
        }
      }
    }
  }

  struct Step {
    const LoopTabEntry* entry;
    const FstabLine* mount;  // the one that makes it necessary
  };

  // The way from a line back to itself, the shortest there is; empty: none.
  std::vector<Step> cycle_of(const LoopTabEntry& start) const {
    std::map<const LoopTabEntry*, std::vector<Step>> ways{{&start, {}}};
    std::vector<const LoopTabEntry*> next{&start};
    for (size_t i = 0; i < next.size(); ++i) {
      const auto found = needs_.find(next[i]);
      if (found == needs_.end()) continue;
      for (const Step& step : found->second) {
        std::vector<Step> way = ways[next[i]];
        way.push_back(step);
        if (step.entry == &start) return way;
        if (ways.emplace(step.entry, way).second) next.push_back(step.entry);
      }
    }
    return {};
  }

 private:
  std::map<const LoopTabEntry*, std::vector<Step>> needs_;
};

void find_cycles(const std::vector<LoopTabEntry>& entries, const std::vector<FstabLine>& fstab,
                 std::vector<BootFinding>& findings) {
  const Dependencies dependencies(entries, fstab);
  for (const LoopTabEntry& entry : entries) {
    const auto way = dependencies.cycle_of(entry);
    if (way.empty()) continue;
    if (way.size() == 1) {
      findings.push_back({entry.line, BootProblem::image_below_own_mount, true,
                          "the image " + entry.image + " lies below its own mount, " +
                              fstab_place(*way[0].mount) + ": each would wait for the other"});
      continue;
    }
    std::string text = entry.name;
    for (const auto& step : way)
      text += " needs " + escape_to_utf8(step.mount->mount_point) + " on " + step.entry->name + ", which";
    text.resize(text.size() - std::string_view(", which").size());
    findings.push_back({entry.line, BootProblem::cycle, true, "a cycle: " + text});
  }
}

void find_network_mismatches(const LoopTabEntry& entry, const std::vector<FstabLine>& fstab,
                             std::vector<BootFinding>& findings) {
  if (!is_on_network(entry, fstab)) return;
  for (const FstabLine* mount : uses_of(entry, fstab)) {
    if (mount->is_on_network() || mount->has_option("noauto")) continue;
    findings.push_back({entry.line, BootProblem::network_use_missing, true,
                        "the device comes with the network, but " + fstab_place(*mount) +
                            " has no _netdev: the boot would wait for it before there is a network"});
  }
  if (!entry.options.netdev) {
    findings.push_back({entry.line, BootProblem::network_line_missing, false,
                        "has no _netdev, but fstab tells that it is on the network: taken as if it had"});
  }
}

void find_overlaps(const std::vector<LoopTabEntry>& entries, std::vector<BootFinding>& findings) {
  for (size_t i = 0; i < entries.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const LoopTabOptions& one = entries[i].options;
      const LoopTabOptions& other = entries[j].options;
      if (entries[i].image != entries[j].image || (one.read_only && other.read_only)) continue;
      const MappedRange range = range_of(one.offset, one.size_limit);
      const MappedRange beside = range_of(other.offset, other.size_limit);
      if (range.begin >= beside.end || beside.begin >= range.end) continue;
      findings.push_back({entries[i].line, BootProblem::overlap, true,
                          "maps bytes of " + entries[i].image + " that line " +
                              std::to_string(entries[j].line) + " maps, too, and one of the two may write"});
    }
  }
}

}  // namespace

std::vector<const FstabLine*> uses_of(const LoopTabEntry& entry, const std::vector<FstabLine>& fstab) {
  std::vector<const FstabLine*> uses;
  for (const FstabLine& mount : fstab) {
    if (is_link_of(entry, mount.source)) uses.push_back(&mount);
  }
  return uses;
}

std::vector<const FstabLine*> mounts_above(const std::string& path, const std::vector<FstabLine>& fstab) {
  std::vector<const FstabLine*> mounts;
  for (const FstabLine& mount : fstab) {
    if (mount.mount_point.starts_with('/') && mount.mount_point != "/" &&
        is_at_or_below(path, mount.mount_point)) {
      mounts.push_back(&mount);
    }
  }
  std::stable_sort(mounts.begin(), mounts.end(), [](const FstabLine* a, const FstabLine* b) {
    return a->mount_point.size() < b->mount_point.size();
  });
  return mounts;
}

bool is_on_network(const LoopTabEntry& entry, const std::vector<FstabLine>& fstab) {
  const auto needs_network = [](const FstabLine* mount) { return mount->is_on_network(); };
  const auto uses = uses_of(entry, fstab);
  const auto above = mounts_above(entry.image, fstab);
  return entry.options.netdev || std::any_of(uses.begin(), uses.end(), needs_network) ||
         std::any_of(above.begin(), above.end(), needs_network);
}

std::vector<BootFinding> find_boot_problems(const std::vector<LoopTabEntry>& entries,
                                            const std::vector<FstabLine>& fstab) {
  std::vector<BootFinding> findings;
  find_cycles(entries, fstab, findings);
  for (const LoopTabEntry& entry : entries) find_network_mismatches(entry, fstab, findings);
  find_overlaps(entries, findings);
  std::stable_sort(findings.begin(), findings.end(),
                   [](const BootFinding& a, const BootFinding& b) { return a.line < b.line; });
  return findings;
}

}  // namespace loop
