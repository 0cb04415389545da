// SPDX-License-Identifier: LGPL-2.1-or-later
#include <benchmark/benchmark.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <string>

#include "tests/bench/benchmarks.hpp"
#include "tests/bus/scratch.hpp"

namespace {

using namespace loopd_bench;

struct Arguments {
  Setting setting;
  bool short_form = false;
};

// Google Benchmark has taken its own before.
std::optional<Arguments> parse(int argc, char** argv) {
  Arguments arguments;
  const std::string population = "--population=";
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--short") {
      arguments.short_form = true;
    } else if (argument == "--without-udisks") {
      arguments.setting.udisks = false;
    } else if (argument == "--without-udev") {
      arguments.setting.udev = false;
    } else if (argument.starts_with(population)) {
      arguments.setting.population =
          static_cast<unsigned>(std::strtoul(argument.c_str() + population.size(), nullptr, 10));
    } else {
      std::fprintf(stderr,
                   "loopd-bench: unknown argument '%s'\n"
                   "Usage: loopd-bench [--short] [--population=DEVICES] [--without-udisks] [--without-udev]\n"
                   "                   [--benchmark_...]\n",
                   argv[i]);
      return std::nullopt;
    }
  }
  return arguments;
}

// Tells what did not work, and where it is.
class Progress final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& /*context*/) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type == Run::RT_Aggregate) continue;
      if (run.error_occurred) {
        std::fprintf(stderr, "loopd-bench: %s: %s\n", run.run_name.function_name.c_str(),
                     run.error_message.c_str());
        failed_ = true;
      } else if (run.repetition_index == 0) {
        std::fprintf(stderr, "%s\n", run.run_name.function_name.c_str());
      }
    }
  }
  bool failed() const { return failed_; }

 private:
  bool failed_ = false;
};

// A descriptor for each image.
void allow_many_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

bool measure(const Arguments& arguments) {
  Stage stage(arguments.setting);
  use_short_form(arguments.short_form);
  add_attach_benchmarks(stage);
  add_bulk_benchmarks(stage);
  add_query_benchmarks(stage);
  add_event_benchmarks(stage);
  add_start_benchmarks(stage);
  add_stranger_benchmarks(stage);
  add_resident_benchmarks(stage);
  benchmark::AddCustomContext("population", std::to_string(arguments.setting.population));
  Progress progress;
  benchmark::RunSpecifiedBenchmarks(&progress);
  benchmark::ClearRegisteredBenchmarks();  // they refer to the stage
  return !progress.failed();
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const auto arguments = parse(argc, argv);
  if (!arguments) return 2;
  if (::geteuid() != 0) {
    std::fprintf(stderr, "loopd-bench: attaches loop devices: run it as root\n");
    return 1;
  }
  int code = 0;
  try {
    allow_many_descriptors();
    bus_test::set_up_scratch();
    if (!measure(*arguments)) code = 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "loopd-bench: %s\n", error.what());
    code = 1;
  }
  for (const std::string& device : bus_test::tear_down_scratch()) {
    std::fprintf(stderr, "loopd-bench: %s was left attached\n", device.c_str());
    code = 1;
  }
  return code;
}
