// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/looptab.hpp"

namespace loop::testing {
namespace {

LoopTabEntry only_entry(const std::string& text) {
  LoopTab table = parse_looptab(text);
  EXPECT_TRUE(table.diagnostics.empty()) << table.diagnostics.front().text;
  EXPECT_EQ(table.entries.size(), 1U) << text;
  return table.entries.empty() ? LoopTabEntry() : std::move(table.entries.front());
}

LoopTabOptions options(const std::string& text) { return parse_looptab_options(text); }

std::string complaint_of(const std::string& option_text) {
  try {
    parse_looptab_options(option_text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    return error.what();
  }
  return {};
}

TEST(ALooptab, HasALineForEachDevice) {
  const LoopTab table = parse_looptab("data /srv/data.img\nswap\t/var/swap.img\tread-only,nofail\n");
  ASSERT_EQ(table.entries.size(), 2U);
  EXPECT_EQ(table.entries[0].name, "data");
  EXPECT_EQ(table.entries[0].image, "/srv/data.img");
  EXPECT_EQ(table.entries[0].line, 1U);
  EXPECT_EQ(table.entries[0].options, LoopTabOptions());
  EXPECT_EQ(table.entries[1].line, 2U);
  EXPECT_EQ(table.entries[1].options_text, "read-only,nofail");
  EXPECT_TRUE(table.entries[1].options.read_only);
  EXPECT_TRUE(table.entries[1].options.nofail);
}

TEST(ALooptab, MayHaveCommentsBlankLinesAndNoFinalNewline) {
  const LoopTab table =
      parse_looptab("# name image\n\n   \t\r\n  # indented\r\n a /a.img -\r\nb /b.img none");
  EXPECT_TRUE(table.diagnostics.empty());
  ASSERT_EQ(table.entries.size(), 2U);
  EXPECT_EQ(table.entries[0].line, 5U);
  EXPECT_EQ(table.entries[1].line, 6U);
}

TEST(ALooptab, KnowsEveryOption) {
  const LoopTabOptions read = options(
      "read-only,offset=1M,size-limit=3G,block-size=4096,direct-io,partition-scan,reference=other,number=7,"
      "nofail,noauto,_netdev,x-initrd.attach,x-systemd.device-timeout=1min30s");
  LoopTabOptions expected;
  expected.read_only = true;
  expected.offset = 1U << 20;
  expected.size_limit = 3ULL << 30;
  expected.block_size = 4096;
  expected.direct_io = true;
  expected.partition_scan = true;
  expected.reference = "other";
  expected.number = 7;
  expected.nofail = true;
  expected.noauto = true;
  expected.netdev = true;
  expected.attach_in_initrd = true;
  expected.device_timeout = "1min30s";
  EXPECT_EQ(read, expected);
}

TEST(ALooptab, TakesTheLastOfContradictoryOptions) {
  EXPECT_FALSE(options("read-only,read-only=no").read_only);
  EXPECT_TRUE(options("partition-scan=off,partition-scan=yes").partition_scan);
  EXPECT_FALSE(options("noauto,auto").noauto);
  EXPECT_FALSE(options("nofail,fail").nofail);
  EXPECT_EQ(options("block-size=auto,block-size=512").block_size, 512U);
  EXPECT_FALSE(options("block-size=auto,block-size=512").probe_block_size);
  EXPECT_TRUE(options("block-size=512,block-size=auto").probe_block_size);
}

TEST(ALooptab, IgnoresWhatIsForOtherPrograms) {
  EXPECT_EQ(options("defaults,x-gvfs-hide,x-systemd.makefs,,x-foo=a=b"), LoopTabOptions());
}

TEST(ALooptab, ReadsSizes) {
  const std::vector<std::pair<std::string, uint64_t>> sizes{
      {"0", 0},           {"4096", 4096},     {"1K", 1024},       {"2M", 2U << 20},
      {"2MiB", 2U << 20}, {"3T", 3ULL << 40}, {"1P", 1ULL << 50}, {"9223372036854775807", INT64_MAX}};
  for (const auto& [text, bytes] : sizes) EXPECT_EQ(options("offset=" + text).offset, bytes) << text;
  for (const char* text : {"K", "iB", "1iB", "1k", "1MB", "-1", "+1", "1.5M", "0x10", "9223372036854775808",
                           "8E", "18446744073709551616", "1 M"}) {
    EXPECT_NE(complaint_of(std::string("offset=") + text), "") << text;
  }
}

TEST(ALooptab, ReadsTimeSpansAsSystemdDoes) {
  for (const char* text : {"0", "90", "1.5s", "10ms", "1h30min", "infinity", "2weeks", "500us"}) {
    EXPECT_EQ(options(std::string("x-systemd.device-timeout=") + text).device_timeout, text);
  }
  for (const char* text : {"soon", "5parsecs", "s", ".5s", "1.2.3s", "-1", "infinitely"}) {
    EXPECT_NE(complaint_of(std::string("x-systemd.device-timeout=") + text), "") << text;
  }
}

TEST(ALooptab, NamesTheOptionThatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"read-olny", "'read-olny': is no option"},
      {"ro", "'ro': is no option"},
      {"offset", "offset: needs a value"},
      {"offset=", "offset: needs a value"},
      {"nofail=yes", "nofail: takes no value"},
      {"read-only=perhaps", "read-only: 'perhaps' is neither yes nor no"},
      {"block-size=1000", "block-size: '1000' is no power of two from 512 to the size of a page"},
      {"block-size=256", "block-size: '256' is no power of two from 512 to the size of a page"},
      {"number=1048576", "number: '1048576' is no number up to 1048575"},
      {"number=", "number: needs a value"},
      {"reference=a/b", "reference: 'a/b' may have only letters of ASCII, digits and #+.:=@_-"},
      {"reference=a-part1", "reference: 'a-part1' ends like the link of a partition"},
      {"=", "'': is no option"},
  };
  for (const auto& [text, complaint] : wrong) EXPECT_EQ(complaint_of(text), complaint);
}

struct BadLine {
  std::string text;
  LoopTabProblem problem;
};

class ABadLine : public ::testing::TestWithParam<BadLine> {};

TEST_P(ABadLine, IsToldAndKeepsNoOtherOut) {
  const LoopTab table = parse_looptab("before /before.img\n" + GetParam().text + "\nafter /after.img\n");
  ASSERT_EQ(table.diagnostics.size(), 1U);
  EXPECT_EQ(table.diagnostics[0].line, 2U);
  EXPECT_EQ(table.diagnostics[0].problem, GetParam().problem) << table.diagnostics[0].text;
  ASSERT_EQ(table.entries.size(), 2U);
  EXPECT_EQ(table.entries[0].name, "before");
  EXPECT_EQ(table.entries[1].name, "after");
}

INSTANTIATE_TEST_SUITE_P(
    OfEachKind, ABadLine,
    ::testing::Values(BadLine{"alone", LoopTabProblem::missing_image},
                      BadLine{"a /my image.img read-only", LoopTabProblem::too_many_fields},
                      BadLine{"a/b /a.img", LoopTabProblem::invalid_name},
                      BadLine{"ä /a.img", LoopTabProblem::invalid_name},
                      BadLine{".. /a.img", LoopTabProblem::invalid_name},
                      BadLine{"disk-part3 /a.img", LoopTabProblem::invalid_name},
                      BadLine{std::string(63, 'n') + " /a.img", LoopTabProblem::invalid_name},
                      BadLine{"before /a.img", LoopTabProblem::duplicate_name},
                      BadLine{"a a.img", LoopTabProblem::invalid_image},
                      BadLine{"a /srv/../a.img", LoopTabProblem::invalid_image},
                      BadLine{"a /", LoopTabProblem::invalid_image},
                      BadLine{"a /a\\012b", LoopTabProblem::invalid_image},
                      BadLine{"a /a\\377b", LoopTabProblem::invalid_image},
                      BadLine{"a /" + std::string(4096, 'p'), LoopTabProblem::invalid_image},
                      BadLine{"a /a.img sync", LoopTabProblem::unknown_option},
                      BadLine{"a /a.img number", LoopTabProblem::missing_value},
                      BadLine{"a /a.img noauto=1", LoopTabProblem::unexpected_value},
                      BadLine{"a /a.img offset=1Q", LoopTabProblem::invalid_value},
                      BadLine{"a /a.img reference=before", LoopTabProblem::duplicate_reference}));

TEST(ALooptab, GivesANumberOnce) {
  const LoopTab table = parse_looptab("a /a.img number=3\nb /b.img number=3\nc /c.img number=4");
  ASSERT_EQ(table.diagnostics.size(), 1U);
  EXPECT_EQ(table.diagnostics[0].problem, LoopTabProblem::duplicate_number);
  EXPECT_EQ(table.diagnostics[0].text, "number 3: is that of line 1 already");
}

TEST(ALooptab, UndoesEscapesInPathsAndSimplifiesThem) {
  EXPECT_EQ(only_entry("a /srv/my\\040disk.img").image, "/srv/my disk.img");
  EXPECT_EQ(only_entry("a /srv//x/./y/").image, "/srv/x/y");
  EXPECT_EQ(only_entry("a /srv/50%\\134$HOME.img").image, "/srv/50%\\$HOME.img");
  EXPECT_EQ(only_entry("a /srv/bücher.img").image, "/srv/bücher.img");
}

TEST(ALooptab, RefersToTheNameUnlessToldOtherwise) {
  EXPECT_EQ(only_entry("a+b@c /a.img").link(), "/dev/disk/by-loop-ref/a+b@c");
  EXPECT_EQ(only_entry("a /a.img reference=other").link(), "/dev/disk/by-loop-ref/other");
  EXPECT_EQ(only_entry(std::string(62, 'n') + " /a.img").reference(), std::string(62, 'n'));
}

TEST(ALooptab, SaysWhatToAttach) {
  const AttachRequest request = attach_request(options(
      "read-only,offset=512,size-limit=1M,block-size=1K,direct-io,partition-scan,number=5,reference=r"));
  EXPECT_TRUE(request.read_only);
  EXPECT_EQ(request.offset, 512U);
  EXPECT_EQ(request.size_limit, 1U << 20);
  EXPECT_EQ(request.block_size, 1024U);
  EXPECT_TRUE(request.direct_io);
  EXPECT_EQ(request.partition_scan, PartitionScan::service);
  EXPECT_EQ(request.number, 5U);
  EXPECT_EQ(request.reference, "r");
  EXPECT_TRUE(attach_request(options("block-size=auto")).probe_block_size);
}

// Whatever the bytes: each line is one entry or one diagnostic or nothing, and what
// is told can be shown.
TEST(ALooptab, MayBeAnything) {
  std::mt19937 random(20240607);
  const std::string alphabet = "a/ \t\n\r#\\01477,=-_.x" + std::string("\0\xff\xc3\xa9", 4) + "KMGT";
  for (int round = 0; round < 20'000; ++round) {
    std::string text = round % 2 ? "n /i offset=" : "";
    for (auto length = random() % 60; length > 0; --length) text += alphabet[random() % alphabet.size()];
    const LoopTab table = parse_looptab(text);
    unsigned last = 0;
    for (const LoopTabEntry& entry : table.entries) {
      EXPECT_GT(entry.line, last);
      last = entry.line;
      EXPECT_TRUE(entry.image.starts_with('/'));
      EXPECT_EQ(parse_looptab_options(entry.options_text), entry.options);
    }
    for (const LoopTabDiagnostic& diagnostic : table.diagnostics) {
      EXPECT_GT(diagnostic.line, 0U);
      EXPECT_FALSE(diagnostic.text.empty());
    }
  }
}

}  // namespace
}  // namespace loop::testing
