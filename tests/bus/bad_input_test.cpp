// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What is refused: with the error of the contract, which names the culprit, with
// nothing attached, and with the service alive (the fixture looks).
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>

#include "tests/bus/bus_fixture.hpp"
#include "tests/bus/raw_client.hpp"

namespace bus_test {
namespace {

class BadInput : public Bus {
 protected:
  // Not attached anywhere, as the service and the kernel see it.
  void expect_not_attached(int file) {
    const Reply found = root().manager("FindByFile", {handle(file)});
    if (found.ok()) {
      EXPECT_TRUE(found.values.at(0).items.empty());
    }
  }

  void expect_refused(int file, const Options& wishes, const std::string& error, const std::string& culprit) {
    const Reply reply = root().attach(file, wishes);
    EXPECT_TRUE(fails_with(reply, error, culprit));
    if (reply.ok()) remove_at_end(reply.values.at(0).text);
    expect_not_attached(file);
  }
};

TEST_F(BadInput, AHandleThatNamesNoDescriptorIsRefused) {
  const ScratchFile file(MiB);
  for (const uint32_t wild : {1U, 7U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
    RawClient client(stack().address());
    const Reply reply = client.call_with_handle("Attach", "ha{sv}", wild, file.fd());
    EXPECT_EQ(reply.error, invalid_args) << wild << ": " << reply;
    const Reply without = client.call_with_handle("Attach", "ha{sv}", wild);
    EXPECT_EQ(without.error, invalid_args) << wild << ": " << without;
    EXPECT_EQ(client.call_with_handle("FindByFile", "h", wild, file.fd()).error, invalid_args) << wild;
  }
  expect_not_attached(file.fd());
}

// The bus lets it through; libsystemd takes no character that Unicode has set apart.
TEST_F(BadInput, ATextThatLibrariesDoNotReadIsRefused) {
  const std::string text = "/noncharacter-\xF4\x8F\xBF\xBF";
  RawClient client(stack().address());
  loop::testing::MessageWriter path;
  path.string(text);
  EXPECT_EQ(client.call({root_path, manager_interface, "GetDevice", service_name, "s"}, path.bytes).error,
            invalid_args);
  loop::testing::MessageWriter options;
  options.string("/nonexistent");
  const size_t array = options.begin_array(8);
  options.align(8);
  options.string("reference");
  options.signature("s");
  options.string(text);
  options.end_array(array);
  EXPECT_EQ(
      client.call({root_path, manager_interface, "AttachPath", service_name, "sa{sv}"}, options.bytes).error,
      invalid_args);
}

TEST_F(BadInput, AHandleInAnOptionThatNamesNoDescriptorIsRefused) {
  loop::testing::MessageWriter body;
  body.string("/nonexistent");
  const size_t array = body.begin_array(8);
  body.align(8);
  body.string("reference");
  body.signature("h");
  body.u32(7);
  body.end_array(array);
  RawClient client(stack().address());
  EXPECT_EQ(
      client.call({root_path, manager_interface, "AttachPath", service_name, "sa{sv}"}, body.bytes).error,
      invalid_args);
}

TEST_F(BadInput, AMessageWithoutTheDescriptorIsRefused) {
  RawClient client(stack().address());
  EXPECT_EQ(client.call_with_handle("Attach", "ha{sv}", 0).error, invalid_args);
  EXPECT_EQ(client.call_with_handle("FindByFile", "h", 0).error, invalid_args);
}

TEST_F(BadInput, AHandMadeMessageWithAGoodHandleWorks) {
  const ScratchFile file(MiB);
  RawClient client(stack().address());
  const Reply reply = client.call_with_handle("Attach", "ha{sv}", 0, file.fd());
  ASSERT_TRUE(succeeds(reply));
  remove_at_end(reply.values.at(0).text);
  EXPECT_EQ(sysfs(number_of(reply.values.at(0).text), "loop/backing_file"), file.path());
}

TEST_F(BadInput, OtherArgumentsAreRefused) {
  const ScratchFile file(MiB);
  for (const auto& arguments : std::vector<std::vector<Value>>{{},
                                                               {text(file.path())},
                                                               {handle(file.fd())},
                                                               {text(file.path()), options({})},
                                                               {u32(0), options({})}}) {
    EXPECT_EQ(root().manager("Attach", arguments).error, invalid_args);
  }
}

TEST_F(BadInput, ADirectoryIsRefused) {
  const loop::UniqueFd directory(::open(scratch_directory().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  expect_refused(directory.get(), {{"read-only", boolean(true)}}, invalid_args, "directory");
}

TEST_F(BadInput, APipeIsRefused) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const loop::UniqueFd reading(ends[0]);
  const loop::UniqueFd writing(ends[1]);
  expect_refused(reading.get(), {{"read-only", boolean(true)}}, invalid_args, "pipe");
  expect_refused(writing.get(), {}, invalid_args, "pipe");
}

TEST_F(BadInput, ASocketIsRefused) {
  const loop::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  expect_refused(socket.get(), {}, invalid_args, "socket");
}

TEST_F(BadInput, ACharacterDeviceIsRefused) {
  const loop::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  expect_refused(null.get(), {}, invalid_args, "character device");
}

TEST_F(BadInput, ADescriptorThatOnlyNamesTheFileIsRefused) {
  const ScratchFile file(MiB);
  const loop::UniqueFd name = file.open(O_PATH);
  expect_refused(name.get(), {}, invalid_args, "O_PATH");
  expect_refused(name.get(), {{"read-only", boolean(true)}}, invalid_args, "O_PATH");
}

TEST_F(BadInput, ADescriptorThatOnlyWritesIsRefused) {
  const ScratchFile file(MiB);
  const loop::UniqueFd writing = file.open(O_WRONLY);
  expect_refused(writing.get(), {}, invalid_args, "file");
  expect_refused(writing.get(), {{"read-only", boolean(true)}}, invalid_args, "file");
}

TEST_F(BadInput, ADescriptorThatOnlyReadsIsNotWritable) {
  const ScratchFile file(MiB);
  const loop::UniqueFd reading = file.open(O_RDONLY);
  expect_refused(reading.get(), {}, not_writable, "file");
  expect_refused(reading.get(), {{"read-only", boolean(false)}}, not_writable, "read-only");
}

TEST_F(BadInput, ADescriptorThatOnlyAppendsIsNotWritable) {
  const ScratchFile file(MiB);
  const loop::UniqueFd appending = file.open(O_RDWR | O_APPEND);
  expect_refused(appending.get(), {}, not_writable, "O_APPEND");
}

TEST_F(BadInput, ASealedMemoryFileIsNotWritable) {
  for (const int seal : {F_SEAL_WRITE, F_SEAL_FUTURE_WRITE}) {
    const loop::UniqueFd memory(::memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(memory.get(), MiB), 0);
    ASSERT_EQ(::fcntl(memory.get(), F_ADD_SEALS, seal), 0);
    expect_refused(memory.get(), {}, not_writable, "sealed");
  }
}

TEST_F(BadInput, AnEmptyFileIsRefused) {
  const ScratchFile file(0);
  expect_refused(file.fd(), {}, invalid_args, "empty");
}

TEST_F(BadInput, AnUnknownOptionIsRefused) {
  const ScratchFile file(MiB);
  expect_refused(file.fd(), {{"no-such-option", boolean(true)}}, invalid_args, "no-such-option");
  expect_refused(file.fd(), {{"", boolean(true)}}, invalid_args, "");
  expect_refused(file.fd(), {{"Offset", u64(0)}}, invalid_args, "Offset");
  expect_refused(file.fd(), {{"read-only", boolean(true)}, {"nonsense", u32(1)}}, invalid_args, "nonsense");
}

TEST_F(BadInput, AnOptionTwiceIsRefusedOrCountsOnce) {
  const ScratchFile file(MiB);
  const Reply reply = root().attach(file.fd(), {{"offset", u64(0)}, {"offset", u64(4096)}});
  if (reply.ok()) {
    remove_at_end(reply.values.at(0).text);
    const uint64_t offset = properties_of(reply.values.at(0).text).at("Offset").number;
    EXPECT_TRUE(offset == 0 || offset == 4096);
  } else {
    EXPECT_TRUE(fails_with(reply, invalid_args, "offset"));
  }
}

struct WrongType {
  const char* key;
  Value value;
};

class OptionOfAWrongType : public BadInput, public testing::WithParamInterface<WrongType> {};

TEST_P(OptionOfAWrongType, IsRefused) {
  const ScratchFile file(MiB);
  expect_refused(file.fd(), {{GetParam().key, GetParam().value}}, invalid_args, GetParam().key);
}

INSTANTIATE_TEST_SUITE_P(Each, OptionOfAWrongType,
                         testing::Values(WrongType{"offset", u32(4096)}, WrongType{"offset", text("4096")},
                                         WrongType{"size-limit", i32(4096)},
                                         WrongType{"block-size", u64(512)}, WrongType{"read-only", u32(1)},
                                         WrongType{"read-only", text("true")},
                                         WrongType{"partition-scan", i32(1)},
                                         WrongType{"direct-io", text("on")},
                                         WrongType{"reference", path("/reference")},
                                         WrongType{"number", u64(7)}, WrongType{"number", i32(-1)}));

TEST_F(BadInput, AnOffsetThatIsNotInTheFileIsRefused) {
  const ScratchFile file(MiB);
  expect_refused(file.fd(), {{"offset", u64(MiB)}}, invalid_args, "offset");
  expect_refused(file.fd(), {{"offset", u64(MiB + 512)}}, invalid_args, "offset");
  expect_refused(file.fd(), {{"offset", u64(0x8000'0000'0000'0000)}}, invalid_args, "offset");
  expect_refused(file.fd(), {{"offset", u64(UINT64_MAX)}}, invalid_args, "offset");
}

TEST_F(BadInput, AMappingThatIsSmallerThanABlockIsRefused) {
  const ScratchFile file(MiB);
  expect_refused(file.fd(), {{"offset", u64(MiB - 511)}}, invalid_args, "offset");
  expect_refused(file.fd(), {{"size-limit", u64(511)}}, invalid_args, "size-limit");
  expect_refused(file.fd(), {{"size-limit", u64(2048)}, {"block-size", u32(4096)}}, invalid_args,
                 "size-limit");
}

class BlockSizeThatDoesNotExist : public BadInput, public testing::WithParamInterface<uint32_t> {};

TEST_P(BlockSizeThatDoesNotExist, IsRefused) {
  const ScratchFile file(MiB);
  expect_refused(file.fd(), {{"block-size", u32(GetParam())}}, invalid_args, "block-size");
}

INSTANTIATE_TEST_SUITE_P(Each, BlockSizeThatDoesNotExist,
                         testing::Values(1U, 3U, 256U, 511U, 513U, 1000U, 3072U, 8192U, 65536U, 0x80000000U,
                                         0xFFFFFFFFU));

TEST_F(BadInput, AReferenceThatUdevCannotUseIsRefused) {
  const ScratchFile file(MiB);
  expect_refused(file.fd(), {{"reference", text(std::string(63, 'r'))}}, invalid_args, "reference");
  expect_refused(file.fd(), {{"reference", text(std::string(61, 'r') + "\xC3\xA4")}}, invalid_args,
                 "reference");
  expect_refused(file.fd(), {{"reference", text("with/slash")}}, invalid_args, "reference");
  expect_refused(file.fd(), {{"reference", text("disk-part1")}}, invalid_args, "reference");
  expect_refused(file.fd(), {{"reference", text("disk-part128")}}, invalid_args, "reference");
}

TEST_F(BadInput, AReferenceThatIsInUseIsRefused) {
  const ScratchFile first(MiB);
  const ScratchFile second(MiB);
  const std::string object = attach(first, {{"reference", text("taken")}});
  ASSERT_FALSE(object.empty());
  expect_refused(second.fd(), {{"reference", text("taken")}}, invalid_args, "taken");
}

TEST_F(BadInput, ANumberThatTheKernelDoesNotHaveIsRefused) {
  const ScratchFile file(MiB);
  for (const uint32_t number : {1'048'576U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
    expect_refused(file.fd(), {{"number", u32(number)}}, invalid_args, "number");
  }
}

TEST_F(BadInput, ANumberThatIsInUseIsBusy) {
  const ScratchFile first(MiB);
  const ScratchFile second(MiB);
  const std::string object = attach(first);
  ASSERT_FALSE(object.empty());
  const unsigned number = number_of(object);
  expect_refused(second.fd(), {{"number", u32(number)}}, device_busy, "loop" + std::to_string(number));
  const unsigned foreign = own_number();
  ASSERT_EQ(kernel_attach(foreign, first.fd()), 0);
  expect_refused(second.fd(), {{"number", u32(foreign)}}, device_busy, "loop" + std::to_string(foreign));
  EXPECT_EQ(kernel_detach(foreign), 0);
}

TEST_F(BadInput, AFailedAttachLeavesNoNode) {
  const ScratchFile file(MiB);
  const unsigned number = own_number();
  expect_refused(file.fd(), {{"number", u32(number)}, {"block-size", u32(513)}}, invalid_args, "block-size");
  EXPECT_FALSE(node_exists(number));
}

TEST_F(BadInput, AMethodThatDoesNotExistIsAnError) {
  EXPECT_FALSE(root().manager("NoSuchMethod").ok());
  const Reply reply =
      root().call({.object = root_path, .interface = "org.example.NoSuch", .member = "Attach"});
  EXPECT_FALSE(reply.ok());
}

TEST_F(BadInput, AnObjectThatDoesNotExistIsAnError) {
  const std::string nowhere = object_of(own_number());
  EXPECT_FALSE(root().device(nowhere, "Remove").ok());
  EXPECT_FALSE(root().properties(nowhere).ok());
  EXPECT_FALSE(root().device(std::string(root_path) + "/loopX", "Remove").ok());
}

TEST_F(BadInput, AnotherSpellingOfAnObjectsPathIsNoObject) {
  const ScratchFile file(8 * MiB);
  partition(file, gpt_with_five_partitions);
  const std::string object = attach(file, {{"partition-scan", boolean(true)}});
  ASSERT_FALSE(object.empty());
  const std::string number = std::to_string(number_of(object));
  const std::string stem = std::string(root_path) + "/loop";
  for (const std::string& other :
       {stem + "0" + number, stem + number + "x", stem + number + "/p01", stem + number + "/p6",
        stem + number + "/p1/p1", stem + number + "/1", stem + "18446744073709551616", stem}) {
    EXPECT_TRUE(fails_with(root().device(other, "Resize"), unknown_object)) << other;
    EXPECT_FALSE(root().properties(other).ok()) << other;
  }
  EXPECT_FALSE(root().device(object + "/p1", "Remove").ok());
}

TEST_F(BadInput, PropertiesCannotBeWritten) {
  const ScratchFile file(MiB);
  const std::string object = attach(file);
  ASSERT_FALSE(object.empty());
  const CommandResult set = run({"busctl", "--address=" + stack().address(), "set-property", service_name,
                                 object, device_interface, "ReadOnly", "b", "true"});
  EXPECT_NE(set.status, 0);
  EXPECT_EQ(properties_of(object).at("ReadOnly"), boolean(false));
}

TEST_F(BadInput, AHundredRefusalsLeakNoDescriptor) {
  const ScratchFile file(MiB);
  const auto open_files = [this] {
    size_t count = 0;
    const CommandResult listed = run({"ls", "/proc/" + std::to_string(stack().loopd().pid()) + "/fd"});
    for (const char c : listed.output) count += c == '\n' ? 1U : 0U;
    return count;
  };
  EXPECT_FALSE(root().attach(file.fd(), {{"block-size", u32(3)}}).ok());
  const size_t before = open_files();
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(root().attach(file.fd(), {{"block-size", u32(3)}}).ok());
    EXPECT_FALSE(root().attach(file.fd(), {{"nonsense", u32(3)}}).ok());
    EXPECT_FALSE(root().manager("Attach", {handle(file.fd())}).ok());
  }
  EXPECT_LE(open_files(), before + 3);
}

}  // namespace
}  // namespace bus_test
