// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bench/measurement.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <utility>

namespace loopd_bench {
namespace {

bool short_form = false;

}  // namespace

void use_short_form(bool yes) { short_form = yes; }

bool is_short_form() { return short_form; }

void add(const std::string& name, Repetitions repetitions, std::function<Duration()> measure) {
  add(name, repetitions, [measure = std::move(measure)](Figures&) { return measure(); });
}

void add(const std::string& name, Repetitions repetitions, std::function<Duration(Figures&)> measure) {
  const auto run = [measure = std::move(measure)](benchmark::State& state) {
    try {
      for ([[maybe_unused]] auto _ : state) {
        Figures figures;
        state.SetIterationTime(seconds(measure(figures)));
        state.counters.insert(figures.begin(), figures.end());
      }
    } catch (const std::exception& error) {
      state.SkipWithError(error.what());
    }
  };
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->Iterations(1)
      ->Repetitions(is_short_form() ? repetitions.short_form : repetitions.long_form)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

Duration percentile(std::vector<Duration> samples, double part) {
  if (samples.empty()) return Duration::zero();
  const auto rank = static_cast<size_t>(std::ceil(part * static_cast<double>(samples.size())));
  const auto chosen = samples.begin() + static_cast<std::ptrdiff_t>(std::max<size_t>(rank, 1) - 1);
  std::nth_element(samples.begin(), chosen, samples.end());
  return *chosen;
}

}  // namespace loopd_bench
