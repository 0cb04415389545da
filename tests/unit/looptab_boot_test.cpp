// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/fstab.hpp"
#include "core/looptab.hpp"
#include "core/looptab_boot.hpp"

namespace loop::testing {
namespace {

std::vector<LoopTabEntry> lines(const std::string& looptab) {
  LoopTab table = parse_looptab(looptab);
  EXPECT_TRUE(table.diagnostics.empty());
  return table.entries;
}

std::vector<BootFinding> findings(const std::string& looptab, const std::string& fstab) {
  return find_boot_problems(lines(looptab), parse_fstab(fstab));
}

bool on_network(const std::string& looptab, const std::string& fstab) {
  return is_on_network(lines(looptab).at(0), parse_fstab(fstab));
}

TEST(AnFstab, IsReadAsMountDoes) {
  const auto fstab = parse_fstab(
      "# comment\n\n"
      "/dev/disk/by-loop-ref/data /srv/my\\040data/ ext4 rw,x-systemd.device-timeout=5,_netdev 0 2\n"
      "UUID=1234 none swap\n"
      "incomplete /mnt\n");
  ASSERT_EQ(fstab.size(), 2U);
  EXPECT_EQ(fstab[0].line, 3U);
  EXPECT_EQ(fstab[0].mount_point, "/srv/my data");
  EXPECT_TRUE(fstab[0].has_option("_netdev"));
  EXPECT_TRUE(fstab[0].has_option("x-systemd.device-timeout"));
  EXPECT_FALSE(fstab[0].has_option("x-systemd.device"));
  EXPECT_TRUE(fstab[0].is_on_network());
  EXPECT_EQ(fstab[1].line, 4U);
  EXPECT_TRUE(fstab[1].options.empty());
  EXPECT_FALSE(fstab[1].is_on_network());
}

TEST(AnFstab, KnowsFileSystemsOnTheNetwork) {
  for (const char* type : {"nfs", "nfs4", "cifs", "fuse.sshfs", "fuse.glusterfs"}) {
    EXPECT_TRUE(parse_fstab(std::string("server:/x /x ") + type)[0].is_on_network()) << type;
  }
  for (const char* type : {"ext4", "fuse.portal", "tmpfs", "nfsd"}) {
    EXPECT_FALSE(parse_fstab(std::string("server:/x /x ") + type)[0].is_on_network()) << type;
  }
}

TEST(APath, LiesBelowWholeComponentsOnly) {
  EXPECT_TRUE(is_at_or_below("/srv/a", "/srv"));
  EXPECT_TRUE(is_at_or_below("/srv", "/srv"));
  EXPECT_TRUE(is_at_or_below("/srv", "/"));
  EXPECT_FALSE(is_at_or_below("/srvx", "/srv"));
  EXPECT_FALSE(is_at_or_below("/sr", "/srv"));
}

TEST(ALineOfLooptab, IsUsedByTheMountsOfItsLinks) {
  const auto entry = lines("data /srv/data.img").at(0);
  const auto fstab = parse_fstab(
      "/dev/disk/by-loop-ref/data /a ext4\n"
      "/dev/disk/by-loop-ref/data-part12 /b ext4\n"
      "/dev/disk/by-loop-ref/data-part /c ext4\n"
      "/dev/disk/by-loop-ref/data-part1x /d ext4\n"
      "/dev/disk/by-loop-ref/data2 /e ext4\n");
  std::string mount_points;
  for (const FstabLine* use : uses_of(entry, fstab)) mount_points += use->mount_point;
  EXPECT_EQ(mount_points, "/a/b");
}

TEST(ALineOfLooptab, IsOnTheNetworkWhenAnythingSaysSo) {
  EXPECT_FALSE(on_network("a /srv/a.img", "/dev/sda1 /srv ext4\n"));
  EXPECT_TRUE(on_network("a /srv/a.img _netdev", ""));
  EXPECT_TRUE(on_network("a /srv/a.img", "/dev/disk/by-loop-ref/a /mnt ext4 _netdev\n"));
  EXPECT_TRUE(on_network("a /srv/a.img", "/dev/disk/by-loop-ref/a-part2 /mnt ext4 _netdev\n"));
  EXPECT_TRUE(on_network("a /srv/x/a.img", "server:/srv /srv nfs\n"));
  EXPECT_FALSE(on_network("a /srvx/a.img", "server:/srv /srv nfs\n"));
}

TEST(ABootCheck, IsSilentAboutWhatWorks) {
  EXPECT_TRUE(findings("a /srv/a.img\nb /a/b.img\nc /b/c.img\nd /x/d.img _netdev\n",
                       "/dev/sda1 /srv ext4\n"
                       "/dev/disk/by-loop-ref/a /a ext4\n"
                       "/dev/disk/by-loop-ref/b-part1 /b ext4\n"
                       "/dev/disk/by-loop-ref/d /d ext4 _netdev\n")
                  .empty());
}

TEST(ABootCheck, FindsAnImageBelowItsOwnMount) {
  for (const char* link : {"a", "a-part1"}) {
    const auto found =
        findings("a /mnt/deep/a.img", std::string("/dev/disk/by-loop-ref/") + link + " /mnt ext4\n");
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].problem, BootProblem::image_below_own_mount);
    EXPECT_TRUE(found[0].hangs);
    EXPECT_EQ(found[0].line, 1U);
    EXPECT_EQ(found[0].text,
              "the image /mnt/deep/a.img lies below its own mount, line 1 of fstab (/mnt): "
              "each would wait for the other");
  }
}

TEST(ABootCheck, FindsCyclesOfSeveralLines) {
  const auto found = findings("a /b/a.img\nb /c/b.img\nc /a/c.img\nd /a/d.img\n",
                              "/dev/disk/by-loop-ref/a /a ext4\n"
                              "/dev/disk/by-loop-ref/b /b ext4\n"
                              "/dev/disk/by-loop-ref/c /c ext4\n");
  ASSERT_EQ(found.size(), 3U);  // d only waits for the cycle
  for (const BootFinding& finding : found) EXPECT_EQ(finding.problem, BootProblem::cycle);
  EXPECT_EQ(found[0].text, "a cycle: a needs /b on b, which needs /c on c, which needs /a on a");
}

TEST(ABootCheck, WantsNetdevOnBothLines) {
  const auto line_only = findings("a /srv/a.img _netdev", "/dev/disk/by-loop-ref/a /mnt ext4\n");
  ASSERT_EQ(line_only.size(), 1U);
  EXPECT_EQ(line_only[0].problem, BootProblem::network_use_missing);
  EXPECT_TRUE(line_only[0].hangs);

  const auto mount_only = findings("a /srv/a.img", "/dev/disk/by-loop-ref/a /mnt ext4 _netdev\n");
  ASSERT_EQ(mount_only.size(), 1U);
  EXPECT_EQ(mount_only[0].problem, BootProblem::network_line_missing);
  EXPECT_FALSE(mount_only[0].hangs);

  // Nothing at boot waits for a mount that nobody asks for.
  EXPECT_TRUE(findings("a /srv/a.img _netdev", "/dev/disk/by-loop-ref/a /mnt ext4 noauto\n").empty());
}

TEST(ABootCheck, FindsLinesThatMapTheSameBytes) {
  EXPECT_TRUE(findings("a /i size-limit=1M\nb /i offset=1M\n", "").empty());
  EXPECT_TRUE(findings("a /i read-only\nb /i read-only\n", "").empty());
  const auto found = findings("a /i read-only\nb /i offset=1M\n", "");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].line, 2U);
  EXPECT_EQ(found[0].problem, BootProblem::overlap);
}

}  // namespace
}  // namespace loop::testing
