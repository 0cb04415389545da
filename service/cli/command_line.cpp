// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/cli/command_line.hpp"

#include <getopt.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>

#include "service/cli/all_verbs.hpp"
#include "service/cli/text.hpp"

namespace loopctl {
namespace {

constexpr std::array all_verbs{&list_verb,   &status_verb, &attach_verb,  &remove_verb,
                               &resize_verb, &set_verb,    &rescan_verb,  &probe_verb,
                               &find_verb,   &open_verb,   &monitor_verb, &tab_verb};

constexpr const Verb* default_verb = &list_verb;

constexpr std::array common_options{
    Option{"help", 'h', nullptr, "Show this text; with a verb, its part"},
    Option{"version", 0, nullptr, "Show the version"},
    Option{"host", 'H', "[USER@]HOST", "Talk to loopd on another machine, by ssh"},
    Option{"no-pager", 0, nullptr, "Do not send long output to a pager"},
    Option{"no-ask-password", 0, nullptr, "Do not let polkit ask for a password"},
};

// What getopt_long() returns for an option; above all characters.
constexpr int first_code = 256;

// All options of all verbs: which of them the verb takes is decided when it is
// known. One name means the same, with or without an argument, everywhere.
class OptionTable {
 public:
  OptionTable() {
    for (const Option& option : common_options) add(option);
    for (const Verb* verb : all_verbs) add(*verb);
    long_.push_back({nullptr, 0, nullptr, 0});
  }

  const char* letters() const { return letters_.c_str(); }
  const option* long_options() const { return long_.data(); }
  const char* name_of(int code) const {
    if (code >= first_code) return long_[static_cast<size_t>(code - first_code)].name;
    return by_letter_.at(static_cast<char>(code));
  }

 private:
  void add(const Verb& verb) {
    for (const Option& option : verb.options) add(option);
    for (const Verb* subverb : verb.subverbs) add(*subverb);
  }

  void add(const Option& added) {
    const std::string_view name = added.name;
    const bool known =
        std::any_of(long_.begin(), long_.end(), [&](const option& other) { return name == other.name; });
    if (known) return;
    const bool optional = added.argument && added.argument[0] == '[' && added.argument[1] == '=';
    const int has_argument = !added.argument ? no_argument : optional ? optional_argument : required_argument;
    long_.push_back({added.name, has_argument, nullptr, first_code + static_cast<int>(long_.size())});
    if (added.letter == 0) return;
    by_letter_[added.letter] = added.name;
    letters_ += added.letter;
    letters_.append(static_cast<size_t>(has_argument), ':');
  }

  // In order, so that the verb's own "--" is seen; errors are told by us.
  std::string letters_ = "-:";
  std::vector<option> long_;
  std::map<char, const char*> by_letter_;
};

std::string wrong_option(const char* argument) {
  if (argument[0] == '-' && argument[1] == '-') return argument;
  return std::string("-") + static_cast<char>(optopt);
}

void parse_options(int argc, char** argv, Invocation& invocation) {
  const OptionTable table;
  opterr = 0;
  for (int code; (code = ::getopt_long(argc, argv, table.letters(), table.long_options(), nullptr)) != -1;) {
    switch (code) {
      case 1:  // an argument of the verb
        invocation.add_argument(optarg);
        break;
      case '?': {
        const std::string option = wrong_option(argv[optind - 1]);
        throw UsageError(optopt >= first_code ? option + ": takes no argument"
                                              : option + ": there is no such option, see --help");
      }
      case ':':
        throw UsageError(wrong_option(argv[optind - 1]) + ": needs an argument, see --help");
      default:
        invocation.add_option(table.name_of(code),
                              optarg ? std::optional<std::string>(optarg) : std::nullopt);
    }
  }
  invocation.set_command({argv + optind, argv + argc});
}

const Verb* find_in(std::span<const Verb* const> among, const std::string& name) {
  const auto found =
      std::find_if(among.begin(), among.end(), [&](const Verb* verb) { return name == verb->name; });
  return found == among.end() ? nullptr : *found;
}

void choose_verb(CommandLine& line) {
  line.verb = default_verb;
  line.name = default_verb->name;
  if (line.invocation.arguments().empty()) return;
  line.name = line.invocation.arguments()[0];
  line.verb = find_in(all_verbs, line.name);
  if (line.verb == nullptr) throw UsageError("'" + line.name + "' is no verb, see --help");
  line.invocation.drop_first_argument();
  if (line.verb->subverbs.empty() || (line.help && line.invocation.arguments().empty())) return;
  const std::string second = line.invocation.arguments().empty() ? "" : line.invocation.arguments()[0];
  const Verb* subverb = find_in(line.verb->subverbs, second);
  if (subverb == nullptr) {
    throw UsageError(line.name + ": " +
                     (second.empty() ? "needs a verb of its own" : "'" + second + "' is no verb") +
                     ", see --help");
  }
  line.verb = subverb;
  line.name += " " + second;
  line.invocation.drop_first_argument();
}

bool takes(std::span<const Option> options, const std::string& name) {
  return std::any_of(options.begin(), options.end(),
                     [&](const Option& option) { return name == option.name; });
}

void check_options(const CommandLine& line) {
  for (const std::string& option : line.invocation.given_options()) {
    if (takes(common_options, option) || takes(line.verb->options, option)) continue;
    throw UsageError("--" + option + ": is no option of '" + line.name + "', see --help");
  }
}

void print_line(const std::string& term, size_t width, const char* explanation) {
  const std::string padding(width - std::min(width, display_width(term)), ' ');
  std::printf("  %s%s %s\n", term.c_str(), padding.c_str(), explanation);
}

void print_option(const Option& option) {
  std::string text = option.letter ? std::string("-") + option.letter + ", " : "    ";
  text += std::string("--") + option.name;
  if (option.argument) {
    if (!std::string_view(option.argument).starts_with("[=")) text += "=";
    text += option.argument;
  }
  print_line(text, 28, option.help);
}

void print_options(std::span<const Option> options) {
  for (const Option& option : options) print_option(option);
}

void print_synopsis(const Verb& verb, const std::string& name) {
  const std::string synopsis = name + (*verb.arguments ? " " : "") + verb.arguments;
  print_line(synopsis, 30, verb.summary);
}

// The verb, or those that it has.
template <typename Visit>
void each_leaf(const Verb& verb, Visit visit) {
  if (verb.subverbs.empty()) return visit(verb, std::string(verb.name));
  for (const Verb* subverb : verb.subverbs) visit(*subverb, std::string(verb.name) + " " + subverb->name);
}

constexpr const char* epilogue =
    "\nDEVICE is /dev/loop3, loop3, 3, a link to it or a partition of it, the path of its\n"
    "file, or its reference. SIZE is in bytes, or with K, M, G, T. See loopctl(1).\n";

}  // namespace

std::span<const Verb* const> verbs() { return all_verbs; }

CommandLine parse_command_line(int argc, char** argv) {
  CommandLine line;
  parse_options(argc, argv, line.invocation);
  line.help = line.invocation.has("help");
  line.version = line.invocation.has("version");
  if (line.version || (line.help && line.invocation.arguments().empty())) return line;
  choose_verb(line);
  check_options(line);
  return line;
}

void print_help() {
  std::fputs("loopctl [OPTION…] [VERB [ARGUMENT…]]\n\nLoop devices, by the service loopd.\n\nVerbs:\n",
             stdout);
  for (const Verb* verb : all_verbs) each_leaf(*verb, print_synopsis);
  std::fputs("\nOptions:\n", stdout);
  print_options(common_options);
  for (const Verb* verb : all_verbs) {
    each_leaf(*verb, [](const Verb& leaf, const std::string& name) {
      if (leaf.options.empty()) return;
      std::printf("\nOptions of %s:\n", name.c_str());
      print_options(leaf.options);
    });
  }
  std::fputs(epilogue, stdout);
}

void print_help(const Verb& verb, const std::string& name) {
  if (!verb.subverbs.empty()) {
    each_leaf(verb, print_synopsis);
    std::fputs("\nOptions:\n", stdout);
    print_options(common_options);
    return;
  }
  std::printf("loopctl %s%s%s\n\n%s.\n\nOptions:\n", name.c_str(), *verb.arguments ? " " : "", verb.arguments,
              verb.summary);
  print_options(verb.options);
  print_options(common_options);
  std::fputs(epilogue, stdout);
}

}  // namespace loopctl
