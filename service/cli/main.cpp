// SPDX-License-Identifier: LGPL-2.1-or-later
//
// loopctl: the service's calls for people and shell scripts.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "service/cli/common.hpp"
#include "service/version.hpp"

namespace loopctl {
namespace {

constexpr std::array verbs{&attach_verb, &list_verb, &remove_verb, &resize_verb, &monitor_verb};

void say(const std::string& message) { std::fprintf(stderr, "loopctl: %s\n", printable(message).c_str()); }

void print_verb(const Verb& verb) {
  const std::string synopsis = std::string(verb.name) + " " + verb.arguments;
  std::printf("  %-28s %s\n", synopsis.c_str(), verb.summary);
  std::fputs(verb.options, stdout);
}

void print_help() {
  std::fputs(
      "Usage: loopctl VERB [ARGUMENT]... [OPTION]...\n\nLoop devices, by the service loopd.\n\nVerbs:\n",
      stdout);
  for (const Verb* verb : verbs) print_verb(*verb);
  std::fputs(
      "\nOptions:\n"
      "  -h, --help                   Show this text; with a verb, its part\n"
      "      --version                Show the version\n"
      "\n"
      "DEVICE is given as /dev/loop3, loop3 or 3; SIZE in bytes, or with K, M, G, T.\n"
      "The bus is the system bus, or where $DBUS_SYSTEM_BUS_ADDRESS says.\n"
      "Exit codes: 0 done, 1 failed, 2 wrong usage.\n",
      stdout);
}

const Verb* find_verb(std::string_view name) {
  for (const Verb* verb : verbs) {
    if (verb->name == name) return verb;
  }
  return nullptr;
}

bool asks_for_help(int argc, char** argv) {
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--") return false;
    if (argument == "-h" || argument == "--help") return true;
  }
  return false;
}

int run_verb(const Verb& verb, int argc, char** argv) {
  if (asks_for_help(argc, argv)) {
    print_verb(verb);
    return EXIT_SUCCESS;
  }
  std::string name = std::string("loopctl: ") + verb.name;
  argv[0] = name.data();
  try {
    return verb.run(argc, argv);
  } catch (const UsageError& error) {
    if (*error.what()) say(std::string(verb.name) + ": " + error.what());
    return exit_usage;
  } catch (const Failure& error) {
    say(error.what());
  } catch (const sdbus::Error& error) {
    say(std::string(verb.name) + ": " + error.getMessage());
  }
  return exit_failed;
}

int run(int argc, char** argv) {
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (first == "-h" || first == "--help") {
    print_help();
    return EXIT_SUCCESS;
  }
  if (first == "--version") {
    std::puts("loopctl " LOOPD_VERSION);
    return EXIT_SUCCESS;
  }
  const Verb* verb = find_verb(first);
  if (verb == nullptr) {
    say(first.empty() ? "no verb given, see --help" : "'" + std::string(first) + "' is no verb, see --help");
    return exit_usage;
  }
  return run_verb(*verb, argc - 1, argv + 1);
}

}  // namespace
}  // namespace loopctl

int main(int argc, char** argv) {
  int code = loopctl::run(argc, argv);
  if (std::fflush(stdout) != 0 && code == EXIT_SUCCESS) {
    std::perror("loopctl: cannot write");
    code = loopctl::exit_failed;
  }
  return code;
}
