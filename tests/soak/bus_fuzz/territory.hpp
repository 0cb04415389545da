// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the fuzzer may name. What root asks for is done, whatever it names: so root's
// calls name devices of this run alone, and files in its directory. Devices are known by their
// numbers, which nobody else gets: the kernel gives the lowest that are free, and other tests have
// others. That a number was one of ours a moment ago would be no protection. What is named beside
// must not exist; a number that is too large is one of ours also for who cuts its upper bits off.
//
// Ordinary users are held to the same, but for one thing: they may attach without a number.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/soak/chance.hpp"

namespace soak {

class Territory {
 public:
  // `files`: what is attached; `odd`: what is no image.
  Territory(unsigned first_number, unsigned numbers, std::vector<std::string> files,
            std::vector<std::string> odd);

  bool owns(unsigned number) const { return number >= first_ && number - first_ < numbers_; }
  unsigned first_number() const { return first_; }
  unsigned numbers() const { return numbers_; }

  // For the option: of a device that is ours, or that can't be.
  uint32_t number(Chance& chance) const;
  uint32_t good_number(Chance& chance) const;

  std::string device(Chance& chance) const;     // object path; mostly of one that exists
  std::string partition(Chance& chance) const;  // the same
  std::string no_device(Chance& chance) const;  // object path of nothing
  std::string node(Chance& chance) const;       // device path

  const std::string& file(Chance& chance) const { return chance.pick(files_); }
  // Of a file, a directory, nothing, in many spellings.
  std::string path(Chance& chance) const;

  const std::vector<std::string>& files() const { return files_; }
  const std::vector<std::string>& odd_files() const { return odd_; }

 private:
  unsigned first_;
  unsigned numbers_;
  std::vector<std::string> files_;
  std::vector<std::string> odd_;
};

}  // namespace soak
