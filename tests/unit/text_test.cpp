// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>

#include <string>

#include "core/error.hpp"
#include "core/mounts.hpp"
#include "core/utf8.hpp"

namespace loop::testing {
namespace {

TEST(Utf8, IsRecognised) {
  for (const char* good : {"", "plain", "gr\xC3\xBCn", "\xE2\x82\xAC", "\xF0\x9F\x92\xBE", "\xEF\xBF\xBD",
                           "\xF4\x8F\xBF\xBF", "\xEE\x80\x80", "\xED\x9F\xBF"}) {
    EXPECT_TRUE(is_utf8(good)) << escape_to_utf8(good);
  }
}

TEST(Utf8, IsToldFromWhatOnlyLooksLikeIt) {
  for (const std::string& bad :
       {std::string("\x80"), std::string("\xC3"), std::string("\xC0\xAF"), std::string("\xC1\xBF"),
        std::string("\xE0\x9F\xBF"), std::string("\xED\xA0\x80"), std::string("\xE2\x82"),
        std::string("\xF0\x8F\xBF\xBF"), std::string("\xF4\x90\x80\x80"), std::string("\xF5\x80\x80\x80"),
        std::string("\xFF"), std::string("a\0b", 3), std::string("\xC3(")}) {
    EXPECT_FALSE(is_utf8(bad)) << escape_to_utf8(bad);
  }
}

TEST(APrintableText, HasNoControlCharacters) {
  EXPECT_EQ(printable("a\n\x1b[2J\x7f"), "a\\x0a\\x1b[2J\\x7f");
  EXPECT_EQ(printable("\xC2\x9B"
                      "gr\xC3\xBCn\xC2\xA0"),
            "\\xc2\\x9bgr\xC3\xBCn\xC2\xA0")
      << "C1, and what is none";
  EXPECT_EQ(printable("\\ \xC2"), "\\ \xC2");
}

TEST(Utf8, IsMadeOfAnyBytes) {
  EXPECT_EQ(escape_to_utf8("plain"), "plain");
  EXPECT_EQ(escape_to_utf8("gr\xC3\xBCn"), "gr\xC3\xBCn");
  EXPECT_EQ(escape_to_utf8("a\xFF"
                           "b"),
            "a\\xffb");
  EXPECT_EQ(escape_to_utf8("\xC3(\xE2\x82"), "\\xc3(\\xe2\\x82");
  EXPECT_EQ(escape_to_utf8("back\\slash"), "back\\\\slash");
  EXPECT_EQ(escape_to_utf8("\\xff"), "\\\\xff") << "must not be taken for an escaped byte";
  EXPECT_EQ(escape_to_utf8(std::string_view("a\0b", 3)),
            "a\\x00"
            "b");
  EXPECT_EQ(escape_to_utf8("two\nlines"), "two\nlines");
}

TEST(Utf8, ComesOutOfEveryByte) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string one(1, static_cast<char>(byte));
    EXPECT_TRUE(is_utf8(escape_to_utf8(one))) << byte;
    EXPECT_TRUE(is_utf8(escape_to_utf8("\xE2" + one + "\x82"))) << byte;
  }
}

TEST(OctalEscapes, AreUndone) {
  EXPECT_EQ(undo_octal_escapes("/plain"), "/plain");
  EXPECT_EQ(undo_octal_escapes("/with\\040space\\011tab\\012line"), "/with space\ttab\nline");
  EXPECT_EQ(undo_octal_escapes("\\134040"), "\\040") << "one pass only";
  EXPECT_EQ(undo_octal_escapes("\\377"), "\xFF");
}

TEST(OctalEscapes, ThatAreNoneStay) {
  for (const char* text : {"\\", "\\0", "\\04", "\\09x", "\\x41", "a\\"}) {
    EXPECT_EQ(undo_octal_escapes(text), text);
  }
}

TEST(Mounts, TellOfTheRoot) {
  bool root = false;
  const auto all = mounts();
  for (const Mount& mount : *all) root = root || mount.mount_point == "/";
  EXPECT_TRUE(root);
}

TEST(AnError, NamesTheErrnoInWords) {
  const Error error(Errc::failed, ENOSPC, "LOOP_CONFIGURE of loop3");
  EXPECT_STREQ(error.what(), ("LOOP_CONFIGURE of loop3: " + errno_text(ENOSPC)).c_str());
  EXPECT_EQ(error.error_number(), ENOSPC);
  EXPECT_EQ(error.code(), Errc::failed);
}

}  // namespace
}  // namespace loop::testing
