// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/soak/plan.hpp"

#include <vector>

namespace soak {

using bus_test::boolean;
using bus_test::text;
using bus_test::u32;
using bus_test::u64;

bus_test::Options Plan::options() const {
  bus_test::Options wishes;
  if (image.before != 0) wishes.emplace_back("offset", u64(image.before));
  // Without a limit the range ends with the file.
  if (image.behind != 0) wishes.emplace_back("size-limit", u64(image.size));
  if (read_only) wishes.emplace_back("read-only", boolean(true));
  if (partition_scan) wishes.emplace_back("partition-scan", boolean(true));
  if (direct_io) wishes.emplace_back("direct-io", boolean(true));
  if (block_size != 0) wishes.emplace_back("block-size", u32(block_size));
  if (number != 0) wishes.emplace_back("number", u32(number));
  if (!reference.empty()) wishes.emplace_back("reference", text(reference));
  if (ending == Ending::lease) wishes.emplace_back("lease", boolean(true));
  if (ending == Ending::autoclear) wishes.emplace_back("autoclear", boolean(true));
  return wishes;
}

Plan make_plan(Chance& chance, unsigned unique, bool service_may_die) {
  Plan plan;
  plan.image = plan_image(chance);
  const bool has_table = plan.image.kind == ImageKind::gpt || plan.image.kind == ImageKind::mbr;
  plan.by_path = chance.one_in(4);
  plan.read_only = chance.one_in(3);
  plan.partition_scan = has_table && !chance.one_in(5);
  plan.direct_io = chance.one_in(4);
  if (has_table) {
    plan.block_size = plan.image.sector;
  } else if (chance.one_in(3)) {
    plan.block_size = 512U << chance.below(4);
  }
  if (plan.image.kind == ImageKind::filesystem && plan.block_size > 1024) plan.block_size = 1024;
  if (chance.one_in(8)) plan.number = unique;
  if (chance.one_in(4)) plan.reference = "soak-" + std::to_string(unique);
  std::vector<Ending> endings{
      Ending::remove,    Ending::remove,    Ending::remove, Ending::remove_by_sequence,
      Ending::keep_node, Ending::keep_node, Ending::lease,  Ending::foreign};
  // What of these a dead service has not done, nobody can tell.
  if (!service_may_die) endings.insert(endings.end(), {Ending::lazy, Ending::autoclear});
  plan.ending = chance.pick(endings);
  return plan;
}

}  // namespace soak
