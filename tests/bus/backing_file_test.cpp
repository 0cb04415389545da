// SPDX-License-Identifier: LGPL-2.1-or-later
//
// File names that break programs. Whatever the file is called, the device has its
// object, and no listing fails.
#include <fcntl.h>
#include <unistd.h>

#include "tests/bus/bus_fixture.hpp"

namespace bus_test {
namespace {

class BackingFile : public Bus {
 protected:
  void expect_listings_work(const std::string& object) {
    const Reply managed = root().managed_objects();
    ASSERT_TRUE(succeeds(managed));
    EXPECT_NE(managed.values.at(0).find(object), nullptr);
    const Reply listed = root().manager("ListDevices");
    ASSERT_TRUE(succeeds(listed));
    bool found = false;
    for (const Value& device : listed.values.at(0).items) {
      if (device.items.at(0).text != object) continue;
      found = true;
      EXPECT_EQ(device.items.at(1), text(node_of(number_of(object))));
      EXPECT_EQ(device.items.at(2), root().property(object, "BackingFile").values.at(0));
      EXPECT_EQ(device.items.at(3), text(""));
    }
    EXPECT_TRUE(found);
  }

  // A file of that name has these bytes and this text as properties.
  void expect_shown(const std::string& name, const std::string& shown) {
    const ScratchFile file(MiB, name);
    const std::string object = attach(file);
    ASSERT_FALSE(object.empty());
    const Value all = properties_of(object);
    EXPECT_EQ(all.at("BackingFile"), text(scratch_directory() + "/" + shown));
    EXPECT_EQ(all.at("BackingFileBytes").bytes(), scratch_directory() + "/" + name + '\0');
    EXPECT_EQ(all.at("BackingFileDeleted"), boolean(false));
    expect_listings_work(object);
    EXPECT_EQ(root().manager("FindByPath", {text(file.path())}).ok(), shown == name);
  }
};

TEST_F(BackingFile, MayHaveAnOrdinaryName) { expect_shown("image.raw", "image.raw"); }

TEST_F(BackingFile, MayHaveANameOfUtf8) {
  expect_shown("d\xC3\xA9j\xC3\xA0 vu \xE2\x82\xAC.img", "d\xC3\xA9j\xC3\xA0 vu \xE2\x82\xAC.img");
}

TEST_F(BackingFile, MayHaveANewlineInItsName) { expect_shown("two\nlines", "two\nlines"); }

TEST_F(BackingFile, MayEndInANewline) { expect_shown("ends in newline\n", "ends in newline\n"); }

TEST_F(BackingFile, ShowsABackslashAsTwo) {
  const ScratchFile file(MiB, "back\\slash\\x41");
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const Value all = properties_of(object);
  EXPECT_EQ(all.at("BackingFile"), text(scratch_directory() + "/back\\\\slash\\\\x41"));
  EXPECT_EQ(all.at("BackingFileBytes").bytes(), file.path() + '\0');
  expect_listings_work(object);
}

TEST_F(BackingFile, ShowsBytesThatAreNotUtf8InHexadecimal) {
  const ScratchFile file(MiB, "latin1-\xE9\xFF-\xC3\xA9");
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const Value all = properties_of(object);
  const std::string shown = all.at("BackingFile").text;
  EXPECT_TRUE(shown == scratch_directory() + "/latin1-\\xe9\\xff-\xC3\xA9" ||
              shown == scratch_directory() + "/latin1-\\xE9\\xFF-\xC3\xA9")
      << shown;
  EXPECT_EQ(all.at("BackingFileBytes").bytes(), file.path() + '\0');
  expect_listings_work(object);
}

TEST_F(BackingFile, MayBeUnlinked) {
  const std::string name = "unlinked";
  const ScratchFile file(MiB, name);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  ASSERT_EQ(::unlink(file.path().c_str()), 0);
  const Value all = properties_of(object);
  EXPECT_EQ(all.at("BackingFile"), text(file.path()));
  EXPECT_EQ(all.at("BackingFileBytes").bytes(), file.path() + '\0');
  EXPECT_EQ(all.at("BackingFileDeleted"), boolean(true));
  expect_listings_work(object);
  const Reply found = root().manager("FindByFile", {handle(file.fd())});
  ASSERT_TRUE(succeeds(found));
  EXPECT_EQ(found.values.at(0).texts(), std::vector<std::string>{object});
}

TEST_F(BackingFile, TellsItsUnlinkingToListenersWhenItIsReadNext) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  ASSERT_EQ(::unlink(file.path().c_str()), 0);
  EXPECT_EQ(root().property(object, "BackingFileDeleted").values.at(0), boolean(true));
  EXPECT_TRUE(root().wait_for([&] {
    return root().changed_property(object, "BackingFileDeleted") == std::optional<Value>(boolean(true));
  }));
}

TEST_F(BackingFile, MayReallyBeCalledDeleted) {
  const ScratchFile file(MiB, "image (deleted)");
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const Value all = properties_of(object);
  EXPECT_EQ(all.at("BackingFile"), text(file.path()));
  EXPECT_EQ(all.at("BackingFileDeleted"), boolean(false));
  expect_listings_work(object);
}

TEST_F(BackingFile, MayBeCalledDeletedAndBeIt) {
  const ScratchFile file(MiB, "gone (deleted)");
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  ASSERT_EQ(::unlink(file.path().c_str()), 0);
  const Value all = properties_of(object);
  EXPECT_EQ(all.at("BackingFile"), text(file.path()));
  EXPECT_EQ(all.at("BackingFileDeleted"), boolean(true));
}

TEST_F(BackingFile, FollowsARename) {
  const ScratchFile file(MiB, "old name");
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const std::string renamed = scratch_directory() + "/new name";
  ASSERT_EQ(::rename(file.path().c_str(), renamed.c_str()), 0);
  EXPECT_EQ(properties_of(object).at("BackingFile"), text(renamed));
  ASSERT_EQ(::rename(renamed.c_str(), file.path().c_str()), 0);
}

TEST_F(BackingFile, MayHaveAPathThatIsLongerThanAPage) {
  const DeepFile file(MiB);
  const std::string object = attach(file.fd());
  ASSERT_FALSE(object.empty());
  ASSERT_EQ(sysfs(number_of(object), "loop/backing_file"), std::nullopt);
  const Value all = properties_of(object);
  EXPECT_EQ(all.at("BackingFile"), text(""));
  EXPECT_EQ(all.at("BackingFileBytes").bytes(), std::string(1, '\0'));
  EXPECT_EQ(all.at("Size"), u64(MiB));
  expect_listings_work(object);
  const Reply found = root().manager("FindByFile", {handle(file.fd())});
  ASSERT_TRUE(succeeds(found));
  EXPECT_EQ(found.values.at(0).texts(), std::vector<std::string>{object});
  EXPECT_TRUE(succeeds(root().device(object, "Remove")));
  EXPECT_FALSE(is_attached(number_of(object)));
}

TEST_F(BackingFile, WithALongPathMayBeAttachedByLosetup) {
  const DeepFile file(MiB);
  const unsigned number = own_number();
  ASSERT_EQ(kernel_attach(number, file.fd()), 0);
  EXPECT_TRUE(
      root().wait_for([&] { return root().find_signal("InterfacesAdded", object_of(number)) != nullptr; }));
  expect_listings_work(object_of(number));
  EXPECT_TRUE(succeeds(root().device(object_of(number), "Remove")));
}

}  // namespace
}  // namespace bus_test
