// Chooses among the instruction sets that the kernels of csrc/cpu are compiled for.
#pragma once

#include <string>
#include <vector>

#include "../ops.h"

namespace sleeptools::cpu {

// The kernels of one instruction set.
struct Kernels {
  const char* name;
#define SLEEPTOOLS_FIELD(name, Op) void (*name)(const Op&, int threads);
  SLEEPTOOLS_OPS(SLEEPTOOLS_FIELD)
#undef SLEEPTOOLS_FIELD
};

// The variants that were compiled and that this CPU can run, best last.
const std::vector<Kernels>& variants();

// The variant in use: the best one, until `select` names another of `variants()`.
const Kernels& kernels();
bool select(const std::string& name);

// Threads for `tasks` independent tasks of `work` float operations each; 1 where starting the
// team would take longer than the work. `set_threads(0)` goes back to OpenMP's own setting, which
// torch.set_num_threads and OMP_NUM_THREADS share. `set_threads_here` goes before it, for ops that
// the calling thread runs; 0 takes it back.
int threads(int64_t tasks, int64_t work);
void set_threads(int count);
void set_threads_here(int count);

}  // namespace sleeptools::cpu
