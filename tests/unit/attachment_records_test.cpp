// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "core/attachment_records.hpp"
#include "core/error.hpp"
#include "tests/support/temporary_directory.hpp"

namespace loop::testing {
namespace {

AttachmentRecord sample(unsigned number, uint64_t sequence) {
  AttachmentRecord record;
  record.number = number;
  record.disk_sequence = sequence;
  record.owner = 1000;
  record.backing = {false, 0xFE00000001, UINT64_MAX};
  record.keeps_partitions = true;
  record.delete_node = true;
  return record;
}

class TheRecords : public ::testing::Test {
 protected:
  void write_file(const std::string& name, const std::string& text) {
    std::ofstream(directory_.file("records/" + name)) << text;
  }
  std::string read_file(const std::string& name) {
    std::ostringstream text;
    text << std::ifstream(directory_.file("records/" + name)).rdbuf();
    return text.str();
  }
  size_t files() const {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_.file("records")))
      ++count;
    return count;
  }
  TemporaryDirectory directory_;
  AttachmentRecords records_{directory_.file("records")};
};

TEST_F(TheRecords, GiveBackWhatWasWritten) {
  const AttachmentRecord record = sample(7, 42);
  records_.write(record);
  EXPECT_EQ(records_.find(42), record);
  EXPECT_EQ(records_.all(), std::vector{record});
  EXPECT_TRUE(records_.intents().empty());
  EXPECT_FALSE(records_.find(43));
}

TEST_F(TheRecords, KeepNamesOfAnyBytes) {
  AttachmentRecord record = sample(7, 42);
  record.reference = "my disk=\"größe\"\n100%\\x41\xff";
  record.declaration = "/srv/a b\\.img";
  records_.write(record);
  EXPECT_EQ(records_.find(42), record);
  EXPECT_NE(read_file("42").find("LOOPD_REFERENCE=my\\x20disk=\\x22größe\\x22\\x0a100\\x25\\x5cx41\\xff\n"),
            std::string::npos)
      << read_file("42");
}

TEST_F(TheRecords, SayNothingOfNamesThatThereAreNot) {
  records_.write(sample(7, 42));
  EXPECT_EQ(read_file("42").find("LOOPD_REFERENCE"), std::string::npos);
  EXPECT_EQ(read_file("42").find("LOOPD_DECLARATION"), std::string::npos);
}

TEST_F(TheRecords, OfAProgramBesideTheServiceHaveNoIntents) {
  AttachmentRecords beside(directory_.file("records"), AttachmentRecords::Intents::none);
  beside.write_intent(sample(7, 41));
  EXPECT_EQ(files(), 0U);
  beside.commit_intent(sample(7, 42));
  EXPECT_EQ(records_.all(), std::vector{sample(7, 42)});
}

// A service that starts erases what it takes for left over by one that was killed.
TEST_F(TheRecords, AreWrittenWhileAServiceStarts) {
  constexpr uint64_t count = 500;
  std::atomic<uint64_t> begun = 0, started = 0;
  // One start for each record, at any moment of its writing.
  std::thread service([&] {
    while (started < count) {
      begun.wait(started);
      records_.erase_scratch();
      ++started;
      started.notify_one();
    }
  });
  AttachmentRecords beside(directory_.file("records"), AttachmentRecords::Intents::none);
  for (uint64_t sequence = 1; sequence <= count; ++sequence) {
    begun = sequence;
    begun.notify_one();
    EXPECT_NO_THROW(beside.write(sample(7, sequence)));
    started.wait(sequence - 1);
  }
  service.join();
  EXPECT_EQ(records_.all().size(), count);
}

TEST_F(TheRecords, AreStillThereForTheNextProcess) {
  records_.write(sample(7, 42));
  EXPECT_EQ(AttachmentRecords(directory_.file("records")).find(42), sample(7, 42));
}

TEST_F(TheRecords, TurnAnIntentIntoARecord) {
  AttachmentRecord record = sample(7, 41);
  records_.write_intent(record);
  EXPECT_EQ(records_.intents(), std::vector{record});
  EXPECT_TRUE(records_.all().empty());
  record.disk_sequence = 42;
  records_.commit_intent(record);
  EXPECT_TRUE(records_.intents().empty());
  EXPECT_EQ(records_.all(), std::vector{record});
  EXPECT_EQ(records_.find(42), record);
  EXPECT_EQ(files(), 1U);
}

TEST_F(TheRecords, LeaveNoIntentWhereItCouldNotBeRenamed) {
  AttachmentRecord record = sample(7, 41);
  records_.write_intent(record);
  record.disk_sequence = 42;
  std::filesystem::create_directory(directory_.file("records/42"));
  EXPECT_THROW(records_.commit_intent(record), Error);
  std::filesystem::remove(directory_.file("records/42"));
  records_.commit_intent(record);
  EXPECT_EQ(records_.all(), std::vector{record});
  EXPECT_EQ(files(), 1U);
}

TEST_F(TheRecords, AreKeptWhereSomebodyErasedTheIntent) {
  AttachmentRecord record = sample(7, 41);
  records_.write_intent(record);
  records_.erase_intent(7);
  record.disk_sequence = 42;
  records_.commit_intent(record);
  EXPECT_EQ(records_.all(), std::vector{record});
}

TEST_F(TheRecords, AreReplacedAsAWhole) {
  AttachmentRecord one = sample(7, 42);
  AttachmentRecord other = one;
  other.owner = 2000;
  other.backing = {true, 1, 0};
  records_.write(one);
  std::atomic<bool> done = false;
  std::jthread writer([&] {
    for (int i = 0; !done; ++i) records_.write(i % 2 == 0 ? other : one);
  });
  for (int reads = 0; reads < 200; ++reads) {
    const auto record = records_.find(42);
    EXPECT_TRUE(record) << "there was a moment without a record";
    EXPECT_TRUE(!record || *record == one || *record == other);
  }
  done = true;
}

TEST_F(TheRecords, AreErased) {
  records_.write(sample(7, 42));
  records_.write_intent(sample(8, 1));
  records_.erase(42);
  records_.erase_intent(8);
  records_.erase(4711);
  EXPECT_EQ(files(), 0U);
}

TEST_F(TheRecords, IgnoreGarbage) {
  records_.write(sample(7, 42));
  write_file("43", "no line of a record\n");
  write_file("44", "LOOPD_DISK_SEQUENCE=44\nLOOPD_OWNER_UID=minus one\n");
  write_file("45", "LOOPD_DISK_SEQUENCE=45\nLOOPD_OWNER_UID=99999999999999999999\n");
  write_file("46", std::string("\0\0\0\0", 4));
  write_file("47", "");
  write_file("0", "");
  write_file("intent-5", "rubbish");
  write_file("intent-0", "");
  write_file("notes", "LOOPD_DISK_SEQUENCE=0\n");
  std::filesystem::create_directory(directory_.file("records/48"));
  ::symlink("42", directory_.file("records/49").c_str());
  EXPECT_EQ(records_.all(), std::vector{sample(7, 42)});
  EXPECT_TRUE(records_.intents().empty());
  for (uint64_t sequence = 43; sequence <= 49; ++sequence) EXPECT_FALSE(records_.find(sequence)) << sequence;
}

TEST_F(TheRecords, IgnoreAFileThatSpeaksOfAnotherAttachment) {
  records_.write(sample(7, 42));
  std::filesystem::rename(directory_.file("records/42"), directory_.file("records/43"));
  EXPECT_FALSE(records_.find(43));
  EXPECT_TRUE(records_.all().empty());
  records_.write_intent(sample(8, 1));
  std::filesystem::rename(directory_.file("records/intent-8"), directory_.file("records/intent-9"));
  EXPECT_TRUE(records_.intents().empty());
}

TEST_F(TheRecords, TakeNoLineOfALaterVersionForGarbage) {
  records_.write(sample(7, 42));
  write_file("42", read_file("42") + "LOOPD_SOMETHING_NEW=7\n");
  EXPECT_EQ(records_.find(42), sample(7, 42));
}

TEST_F(TheRecords, AreReadableByUdevAsProperties) {
  records_.write(sample(7, 42));
  const std::string text = read_file("42");
  EXPECT_NE(text.find("LOOPD_OWNER_UID=1000\n"), std::string::npos) << text;
  struct stat st {};
  ASSERT_EQ(::stat(directory_.file("records").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0022, 0U) << "others could write owners";
}

TEST_F(TheRecords, SayThatTheyCannotBeWritten) {
  std::filesystem::create_directory(directory_.file("records/.42"));
  try {
    records_.write(sample(7, 42));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::failed);
    EXPECT_NE(error.error_number(), 0);
  }
  EXPECT_FALSE(records_.find(42));
}

TEST_F(TheRecords, CannotBeInAPlaceThatIsNoDirectory) {
  directory_.make_file("plain", 0);
  EXPECT_THROW(AttachmentRecords(directory_.file("plain")), Error);
  EXPECT_THROW(AttachmentRecords(directory_.file("absent/records")), Error);
}

}  // namespace
}  // namespace loop::testing
