// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How everything here is measured: a measurement is run once in each repetition, and
// says itself how long what counts took. Google Benchmark repeats them in random
// order, all of one run among each other, so that whatever else the machine does meets
// each of them alike.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace loopd_bench {

using Clock = std::chrono::steady_clock;
using Duration = Clock::duration;

// Figures beside the time; a time is in seconds, memory in bytes.
using Figures = std::map<std::string, double>;

// How often: the long form, and the short one, which shows that everything works.
struct Repetitions {
  int long_form;
  int short_form = 2;
};

// Whether this run is the short form; decided before anything is added.
void use_short_form(bool yes);
bool is_short_form();

// The name's parts are WHAT/WHO or WHAT/WHO/VARIANT.
void add(const std::string& name, Repetitions repetitions, std::function<Duration()> measure);
void add(const std::string& name, Repetitions repetitions, std::function<Duration(Figures&)> measure);

double seconds(Duration duration);

// The value below which that part of the samples lies; 0 < part < 1. Takes a copy to sort.
Duration percentile(std::vector<Duration> samples, double part);

}  // namespace loopd_bench
