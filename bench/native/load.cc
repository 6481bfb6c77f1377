// SPDX-License-Identifier: MIT
//
// spillway-bench-load: the load generator of the benchmark. It reads a plan from stdin, sends its requests,
// and writes one sample per request to stdout, in columns (plan.h; the other end is bench/load/generator.ts).
//
//   spillway-bench-load PARENT
//
// PARENT is the process id of whoever started it: it does not outlive that.
#include <unistd.h>

#include <cstdlib>

#include "engine.h"
#include "machine.h"
#include "plan.h"

namespace {

using namespace bench;

// Long enough that whoever waits for it knows the start before it comes.
constexpr std::int64_t kLead = 5 * kMillisecond;

// Above everything that shares in turn, below the kernel's own threads and the delay.
constexpr int kPriority = 1;

// A closed load takes all of its processor for as long as it lasts: in real time it would starve the kernel's
// threads there, and be throttled.
Precedence take_precedence(Mode mode) {
  return mode == Mode::kClosed ? take_nice() : take_real_time(kPriority);
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 2 || !die_with_parent(std::atoi(argv[1])))
    give_up({0, "usage: spillway-bench-load PARENT, the process id of its parent", {}});
  Result<Plan> plan = read_plan(STDIN_FILENO);
  if (!plan.ok())
    give_up(plan.failure());
  if (plan.value().cpu >= 0) {
    Result<> bound = bind_to_processor(plan.value().cpu);
    if (!bound.ok())
      give_up(bound.failure());
  }
  if (!plan.value().network.empty()) {
    Result<> entered = enter_network(plan.value().network.c_str());
    if (!entered.ok())
      give_up(entered.failure());
  }
  Result<std::unique_ptr<Engine>> made = Engine::make(plan.value(), raise_descriptor_limit());
  if (!made.ok())
    give_up(made.failure());
  Engine &engine = *made.value();
  stay_in_memory();
  Precedence precedence = take_precedence(plan.value().mode);

  std::int64_t start = monotonic() + kLead;
  Result<> result = write_start(STDOUT_FILENO, start);
  if (result.ok())
    result = engine.run(start);
  if (result.ok())
    result = write_outcomes(STDOUT_FILENO,
                            {engine.records(), engine.count(), &engine.workers(), engine.busy(), precedence});
  if (!result.ok())
    give_up(result.failure());
  return EXIT_SUCCESS;
}
