// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/device_reader.hpp"

#include <utility>

namespace loop {

std::optional<DeviceSight> DeviceReader::see(const DeviceQuestion& question) const {
  const LoopKernel& kernel = loops_.kernel();
  auto examination = identify(kernel, question.number, question.known_sequence);
  if (!examination) return std::nullopt;
  if (question.may_have_partitions) examination->partitions = known_partitions(kernel, question.number);
  DeviceSight sight;
  sight.terms = terms_of(*examination, question);
  sight.examination = std::move(*examination);
  if (question.symlinks_of) sight.symlinks = question.symlinks_of(question.number);
  const bool silent = question.silent.contains(sight.disk_sequence());
  if (question.ask_device && sight.terms.served_locally && !silent) {
    describe(sight);
  } else {
    sight.stale = !examine(kernel, sight.examination);
  }
  return sight;
}

void DeviceReader::describe(DeviceSight& sight) const {
  const auto way = helpers_.way(sight.terms.served_locally, sight.terms.owner);
  sight.described = true;
  const unsigned number = sight.examination.snapshot.number;
  if (!sight.terms.served_locally) backing_files_.forget(number);
  const auto watch = [this, number](int file) { backing_files_.watch(number, file); };
  sight.stale = !loop::describe(way->kernel(), sight.examination, watch);
}

AttachmentTerms DeviceReader::terms_of(const Examination& examination, const DeviceQuestion& question) const {
  const uint64_t sequence = examination.snapshot.disk_sequence;
  if (sequence != 0 && sequence == question.known_sequence) return question.known_terms;
  AttachmentTerms foreign;
  foreign.served_locally = examination.served_locally;
  const AttachmentRecords* records = loops_.records();
  if (records == nullptr || sequence == 0) return foreign;
  const auto record = records->find(sequence);
  if (record && record->number == question.number) return *record;
  return foreign;
}

}  // namespace loop
