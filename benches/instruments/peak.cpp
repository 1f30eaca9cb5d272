// How many float operations a second the cores can do from registers alone: the ceiling of every
// matrix product. usage: peak THREADS; prints a line "NAME GFLOPS" for each kind of arithmetic.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <numeric>
#include <thread>
#include <vector>
#ifdef __x86_64__
#include <immintrin.h>
#endif
#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
constexpr int kLanes = kBytes / 4;
constexpr int kChains = 12;  // independent sums: latency times throughput of every FMA unit, and
                             // they fit the 16 registers of AVX2
constexpr long kRounds = 1 << 22;
using Vector [[gnu::vector_size(kBytes)]] = float;

// The empty assembly keeps the compiler from moving a sum out of its register or out of the loop.
double fp32() {
  Vector sums[kChains] = {}, a, b;
  for (int i = 0; i < kLanes; ++i) a[i] = 0.5f, b[i] = 0.25f;
  asm volatile("" : "+x"(a), "+x"(b));
  for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (Vector& sum : sums) {
      sum = sum * a + b;
      asm volatile("" : "+x"(sum));
    }
  }
  return 2.0 * kLanes * kChains * kRounds;
}

#ifdef __AVX512BF16__
double bf16() {
  __m512 sums[kChains] = {};
  __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f003f00), b = a;
  for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (__m512& sum : sums) {
      sum = _mm512_dpbf16_ps(sum, a, b);
      asm volatile("" : "+v"(sum));
    }
  }
  return 4.0 * 16 * kChains * kRounds;
}
#endif

#ifdef __AMX_BF16__
bool has_tiles() {
  constexpr int kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

double tiles() {
  struct alignas(64) {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shape;
  asm volatile("" : : "r"(&shape) : "memory");  // GCC 12 takes the intrinsic to read 8 bytes only
  _tile_loadconfig(&shape);                     // and all tiles are zero
  constexpr long kTileRounds = kRounds / 16;
  for (long round = 0; round < kTileRounds; ++round) {  // intrinsics of tiles are volatile
    _tile_dpbf16ps(0, 6, 7);
    _tile_dpbf16ps(1, 6, 7);
    _tile_dpbf16ps(2, 6, 7);
    _tile_dpbf16ps(3, 6, 7);
  }
  _tile_release();
  return 2.0 * 16 * 16 * 32 * 4 * kTileRounds;
}
#endif

// Of this thread alone, so that a busy machine does not lower the ceiling.
double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}

void report(const char* name, double (*work)(), int threads) {
  double best = 0;  // a ceiling: noise can only lower it
  for (int turn = 0; turn < 7; ++turn) {
    std::vector<double> rates(threads);
    std::vector<std::thread> team;
    for (double& rate : rates) {
      team.emplace_back([&rate, work] {
        const double begun = cpu_seconds();
        const double done = work();
        rate = done / (cpu_seconds() - begun);
      });
    }
    for (std::thread& thread : team) thread.join();
    best = std::max(best, std::accumulate(rates.begin(), rates.end(), 0.0));
  }
  std::printf("%s %.1f\n", name, best / 1e9);
}

}  // namespace

int main(int, char** arguments) {
  const int threads = std::atoi(arguments[1]);
  report("fp32", fp32, threads);
#ifdef __AVX512BF16__
  report("bf16", bf16, threads);
#endif
#ifdef __AMX_BF16__
  if (has_tiles()) report("amx_bf16", tiles, threads);
#endif
}
