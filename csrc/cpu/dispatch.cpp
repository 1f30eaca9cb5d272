#include "dispatch.h"

#include <algorithm>
#include <atomic>
#ifdef SLEEPTOOLS_HAS_amx_bf16
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

// CMake defines SLEEPTOOLS_HAS_name for each variant that it compiles.
#define SLEEPTOOLS_DECLARE(name, Op) void name(const Op&, int threads);
#define SLEEPTOOLS_DECLARE_VARIANT(variant) \
  namespace sleeptools::variant {           \
  SLEEPTOOLS_OPS(SLEEPTOOLS_DECLARE)        \
  }
SLEEPTOOLS_DECLARE_VARIANT(baseline)
#ifdef SLEEPTOOLS_HAS_avx2
SLEEPTOOLS_DECLARE_VARIANT(avx2)
#endif
#ifdef SLEEPTOOLS_HAS_avx512_bf16
SLEEPTOOLS_DECLARE_VARIANT(avx512_bf16)
#endif
#ifdef SLEEPTOOLS_HAS_amx_bf16
// The ops with products in bfloat16; CMakeLists.txt names their files.
#define SLEEPTOOLS_TILE_OPS(OP)                  \
  OP(attention, Attention)                       \
  OP(feed_forward, FeedForward)                  \
  OP(feed_forward_backward, FeedForwardBackward) \
  OP(two_stream_conv, TwoStreamConv)             \
  OP(conv_block, ConvBlock)                      \
  OP(conv_block_backward, ConvBlockBackward)     \
  OP(conv_plan, ConvPlan)
namespace sleeptools::amx_bf16 {
SLEEPTOOLS_TILE_OPS(SLEEPTOOLS_DECLARE)
}
#endif

namespace sleeptools::cpu {
namespace {

#ifdef SLEEPTOOLS_HAS_amx_bf16
// Whether the CPU has the tiles and Linux gives this process leave to use them.
bool may_use_tiles() {
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kBf16) == 0 || (d & kTile) == 0)
    return false;
#ifdef __linux__
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h of newer kernels
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

std::vector<Kernels> supported() {
#define SLEEPTOOLS_BASELINE(name, Op) sleeptools::baseline::name,
#define SLEEPTOOLS_AVX2(name, Op) sleeptools::avx2::name,
#define SLEEPTOOLS_AVX512(name, Op) sleeptools::avx512_bf16::name,
#define SLEEPTOOLS_AMX(name, Op) with_tiles.name = sleeptools::amx_bf16::name;
  std::vector<Kernels> supported_kernels = {{"baseline", SLEEPTOOLS_OPS(SLEEPTOOLS_BASELINE)}};
#ifdef SLEEPTOOLS_HAS_avx2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    supported_kernels.push_back({"avx2", SLEEPTOOLS_OPS(SLEEPTOOLS_AVX2)});
  }
#endif
#ifdef SLEEPTOOLS_HAS_avx512_bf16
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bf16")) {
    supported_kernels.push_back({"avx512-bf16", SLEEPTOOLS_OPS(SLEEPTOOLS_AVX512)});
#ifdef SLEEPTOOLS_HAS_amx_bf16
    if (may_use_tiles()) {
      Kernels with_tiles = supported_kernels.back();
      with_tiles.name = "amx-bf16";
      SLEEPTOOLS_TILE_OPS(SLEEPTOOLS_AMX)
      supported_kernels.push_back(with_tiles);
    }
#endif
  }
#endif
  return supported_kernels;
}

constexpr int64_t kWorthATeam = 1 << 17;  // float operations; waking a team takes 2 to 10 us

std::atomic<const Kernels*> selected{nullptr};
std::atomic<int> requested{0};
thread_local int requested_here = 0;

}  // namespace

const std::vector<Kernels>& variants() {
  static const std::vector<Kernels> supported_variants = supported();
  return supported_variants;
}

const Kernels& kernels() {
  const Kernels* chosen = selected.load(std::memory_order_relaxed);
  return chosen ? *chosen : variants().back();
}

bool select(const std::string& name) {
  for (const Kernels& variant : variants()) {
    if (name == variant.name) {
      selected = &variant;
      return true;
    }
  }
  return false;
}

void set_threads(int count) { requested = count; }

void set_threads_here(int count) { requested_here = count; }

int threads(int64_t tasks, int64_t work) {
#ifdef _OPENMP
  if (tasks < 2 || tasks * work < kWorthATeam) return 1;
  const int process = requested ? requested.load() : omp_get_max_threads();
  return static_cast<int>(std::min<int64_t>(tasks, requested_here ? requested_here : process));
#else
  (void)tasks, (void)work;
  return 1;
#endif
}

}  // namespace sleeptools::cpu
