// cuda_emu.h: runs the .cu files on a CPU with a C++20 compiler, for tests only.
//
// One fiber per CUDA thread, one OS thread per block in flight; barriers and shuffles are real rendezvous, so a missing one
// shows up as a wrong result under one of the schedules (0 forward, 1 backward, more: shuffled). Dynamic shared memory
// starts as garbage. An asynchronous copy happens when its thread waits for it and not before, so that a missing wait shows up
// too. Blocks of a cooperative launch take turns, until a barrier among them. With EMU_RACES every access of a kernel is
// checked against those before it that nothing orders (races.cpp). Not covered: timing, registers.
#pragma once
#include <atomic>
#include <bit>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <tuple>
#include <vector>
#include <sys/mman.h>
#ifdef EMU_RACES
#include "races.h"
#define WITH_RACES(...) __VA_ARGS__
#else
#define WITH_RACES(...)
#endif
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict
#define __align__(n) alignas(n)
#define __shared__ static thread_local
#define __constant__ static
#define warpSize 32

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {} };
#define EMU_VEC(T, N) \
  struct alignas(sizeof(T) * 2) N##2 { T x, y; }; \
  struct alignas(sizeof(T) * 4 > 16 ? 16 : sizeof(T) * 4) N##4 { T x, y, z, w; }; \
  inline N##2 make_##N##2(T a, T b) { return {a, b}; } \
  inline N##4 make_##N##4(T a, T b, T c, T d) { return {a, b, c, d}; }
EMU_VEC(float, float) EMU_VEC(int, int) EMU_VEC(unsigned, uint)

// ---- fibers -----------------------------------------------------------------
namespace emu {
extern "C" void emu_switch(void **save_sp, void *to_sp);
#if defined(__x86_64__)
asm(R"(.text
.weak emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi); movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size emu_switch,.-emu_switch
)");
inline void *make_stack(char *top, void (*entry)()) {
  void **p = (void **)((uintptr_t)top & ~15ull);
  *--p = nullptr;               // keeps rsp = 8 mod 16 at entry, as after a call
  *--p = (void *)entry;
  for (int i = 0; i < 6; i++) *--p = nullptr;
  return p;
}
#elif defined(__aarch64__)
asm(R"(.text
.weak emu_switch
.type emu_switch,%function
emu_switch:
  sub sp,sp,#160
  stp x19,x20,[sp,#0]; stp x21,x22,[sp,#16]; stp x23,x24,[sp,#32]; stp x25,x26,[sp,#48]
  stp x27,x28,[sp,#64]; stp x29,x30,[sp,#80]
  stp d8,d9,[sp,#96]; stp d10,d11,[sp,#112]; stp d12,d13,[sp,#128]; stp d14,d15,[sp,#144]
  mov x9,sp; str x9,[x0]; mov sp,x1
  ldp x19,x20,[sp,#0]; ldp x21,x22,[sp,#16]; ldp x23,x24,[sp,#32]; ldp x25,x26,[sp,#48]
  ldp x27,x28,[sp,#64]; ldp x29,x30,[sp,#80]
  ldp d8,d9,[sp,#96]; ldp d10,d11,[sp,#112]; ldp d12,d13,[sp,#128]; ldp d14,d15,[sp,#144]
  add sp,sp,#160
  ret
)");
inline void *make_stack(char *top, void (*entry)()) {
  uint64_t *p = (uint64_t *)(((uintptr_t)top & ~15ull) - 160);
  memset(p, 0, 160);
  p[11] = (uint64_t)entry;
  return p;
}
#else
#error "cuda_emu.h: add a context switch for this architecture"
#endif

enum State : uint8_t { READY, WAIT_BLOCK, WAIT_WARP, WAIT_GRID, DONE };
enum { BALLOT = -1, BARRIER = -2 };  // where a lane would else read from another
struct Thread { void *sp; uint3 tid; unsigned lane, warp, wait_mask; State st; int src; uint64_t in, out; WITH_RACES(Place place;) };
struct Copy { void *to; const void *from; unsigned size, valid, group; };
struct Warp { unsigned arrived, live; };

inline int &schedule() { static int s = getenv("EMU_SCHEDULE") ? atoi(getenv("EMU_SCHEDULE")) : 0; return s; }
inline size_t stack_bytes() { static size_t s = getenv("EMU_STACK") ? atol(getenv("EMU_STACK")) : 64 << 10; return s; }

// The blocks of a cooperative launch: one runs at a time, until all its threads wait for others that share its counter.
struct Grid {
  struct GroupBarrier { unsigned arrived = 0, phase = 0; };
  std::mutex mutex; std::condition_variable released; unsigned blocks, waiting = 0, finished = 0;
  std::map<const void *, GroupBarrier> group_barriers;
  void arrive(std::unique_lock<std::mutex> &mine, const void *counter, unsigned count) {
    GroupBarrier &all = group_barriers[counter]; unsigned before = all.phase;
    if (++all.arrived == count) { all.arrived = 0; all.phase++; waiting -= count - 1; released.notify_all(); return; }
    waiting++; check();
    released.wait(mine, [&] { return all.phase != before; });
  }
  void end() { finished++; check(); }
  void check() { if (waiting && waiting + finished == blocks) { fprintf(stderr, "cuda_emu: %u blocks wait for each other, %u have ended\n", waiting, finished); abort(); } }
};

struct Block {
  std::vector<Thread> th; std::vector<Warp> warps; std::vector<unsigned> order, pos;
  char *stacks = nullptr; size_t stack_n = 0; int ordered_by = -1;
  Thread *cur = nullptr; void *main_sp = nullptr;
  uint3 bid{}; dim3 bdim, gdim;
  unsigned live = 0, arrived = 0, at_grid = 0, barrier_count = 0; const void *barrier = nullptr; bool all_or = false; int votes = 0, vote_result = 0;
  const std::function<void()> *body = nullptr;
  char *dyn = nullptr; size_t dyn_n = 0;
  std::vector<std::vector<Copy>> copies; std::vector<unsigned> groups;  // of each thread: copies under way, groups closed
  ~Block() { if (stacks) munmap(stacks, stack_n); if (dyn) munmap(dyn, dyn_n); }
  static char *map(size_t n) {
    void *p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) { perror("cuda_emu: memory"); abort(); }
    return (char *)p;
  }
  static Block *&self() { static thread_local Block *b = nullptr; return b; }
  static void entry() {
    Block *b = self();
    (*b->body)();
    b->finish();
  }
  // Its frame is never left, and AddressSanitizer would keep the guards around its local for the stack's next user.
  __attribute__((no_sanitize_address)) void finish() {
    Thread *t = cur; t->st = DONE; live--;
    Warp &w = warps[t->warp]; w.live &= ~(1u << t->lane);
    WITH_RACES(leave();)
    release_block(); release_warp(t->warp);
    void *dead; Thread *n = pick(t);
    switch_to(&dead, n);
    // never resumed; not marked so, because AddressSanitizer would look for a stack that it knows
  }
  Thread *pick(Thread *from) {                        // next runnable, in schedule order
    unsigned n = th.size(), p = pos[from - th.data()];
    for (unsigned i = 1; i <= n; i++) { p = p + 1 == n ? 0 : p + 1; Thread &t = th[order[p]]; if (t.st == READY) return &t; }
    if (live && live != at_grid) { fprintf(stderr, "cuda_emu: deadlock in block (%u,%u,%u): %u threads wait, %u at __syncthreads\n", bid.x, bid.y, bid.z, live, arrived); abort(); }
    return nullptr;
  }
  void yield() {                                      // caller already set its state
    Thread *t = cur; if (t->st == READY) return;
    Thread *n = pick(t); if (n == t) return;
    switch_to(&t->sp, n);
  }
  __attribute__((no_sanitize_address)) void switch_to(void **mine, Thread *n) {  // nobody is left to run: back to `run`
    cur = n; WITH_RACES(enter(n ? &n->place : nullptr);)
    emu_switch(mine, n ? n->sp : main_sp);
  }
  bool release_block() {
    if (!live || arrived != live) return false;
    for (auto &t : th) if (t.st == WAIT_BLOCK) { t.st = READY; WITH_RACES(t.place.phase++;) }
    arrived = 0; vote_result = votes; votes = 0; return true;
  }
  void release_warp(unsigned wi) {
    Warp &w = warps[wi]; unsigned todo = w.arrived;
    while (todo) {                                    // each waiting lane names its own mask
      unsigned l = std::countr_zero(todo); Thread *base = &th[wi * 32];
      unsigned need = base[l].wait_mask & w.live;
      todo &= ~need & ~(1u << l);
      if ((w.arrived & need) != need) continue;
      w.arrived &= ~need;
      WITH_RACES(if (base[l].src == BARRIER) sync_lanes(&base[0].place, sizeof(Thread), need);)
      unsigned vote = 0;
      for (unsigned m = need; m; m &= m - 1) { unsigned j = std::countr_zero(m); vote |= (unsigned)(base[j].in != 0) << j; }
      for (unsigned m = need; m; m &= m - 1) {
        Thread &t = base[std::countr_zero(m)]; t.st = READY;
        if (t.src == BARRIER) continue;
        t.out = t.src < 0 ? vote : need >> t.src & 1 ? base[t.src].in : 0xEBADEBADEBADEBADull;  // undefined on a GPU too
      }
    }
  }
  void syncthreads() { cur->st = WAIT_BLOCK; arrived++; release_block(); yield(); }
  void group_barrier(const void *counter, unsigned count) { barrier = counter; barrier_count = count; cur->st = WAIT_GRID; at_grid++; yield(); }
  void syncwarp(unsigned mask, int src = BARRIER) {
    Warp &w = warps[cur->warp];
    cur->src = src; cur->st = WAIT_WARP; cur->wait_mask = mask | (1u << cur->lane); w.arrived |= 1u << cur->lane;
    if ((w.arrived & mask & w.live) == (mask & w.live)) release_warp(cur->warp);
    yield();
  }
  uint64_t exchange(unsigned mask, uint64_t v, int src) {  // publish v, get lane src's (-1: the ballot)
    cur->in = v; syncwarp(mask, src); return cur->out;
  }
  void wait_for_copies(unsigned num_left) {           // all but the last so many groups
    auto &mine = copies[cur - th.data()]; unsigned closed = groups[cur - th.data()]; size_t kept = 0;
    for (auto &c : mine) {
      if (c.group + num_left >= closed) { mine[kept++] = c; continue; }
      WITH_RACES(note_copy(c.to, c.from, c.size, c.valid);)
      memcpy(c.to, c.from, c.valid); memset((char *)c.to + c.valid, 0, c.size - c.valid);
    }
    mine.resize(kept);
  }
  void run(dim3 g, dim3 b, uint3 id, size_t dyn_bytes, const std::function<void()> &f, Grid *grid) {
    std::unique_lock<std::mutex> lock; if (grid) lock = std::unique_lock(grid->mutex);
    unsigned n = b.x * b.y * b.z; body = &f; bid = id; bdim = b; gdim = g; self() = this;
    size_t sb = stack_bytes();
    if (th.size() != n || ordered_by != schedule()) {
      ordered_by = schedule();
      if (stacks) munmap(stacks, stack_n);
      stack_n = n * sb;
      stacks = map(stack_n);
      th.resize(n); warps.resize((n + 31) / 32); order.resize(n); pos.resize(n);
      for (unsigned i = 0; i < n; i++) order[i] = schedule() == 1 ? n - 1 - i : i;
      if (schedule() > 1) { uint64_t s = schedule(); for (unsigned i = n; i > 1; i--) { s = s * 6364136223846793005ull + 1442695040888963407ull; std::swap(order[i - 1], order[(s >> 33) % i]); } }
      for (unsigned i = 0; i < n; i++) pos[order[i]] = i;
    }
    if (dyn_n < dyn_bytes + 128) { if (dyn) munmap(dyn, dyn_n); dyn_n = dyn_bytes + 4096; dyn = map(dyn_n); }
    memset(dyn, 0xCD, dyn_n);                         // shared memory starts as garbage
    for (auto &w : warps) w = {};
    copies.assign(n, {}); groups.assign(n, 0);
    for (unsigned i = 0; i < n; i++) {
      Thread &t = th[i]; t.tid = {i % b.x, i / b.x % b.y, i / (b.x * b.y)}; t.lane = i & 31; t.warp = i >> 5; t.st = READY;
      // 64-byte stagger: equal alignment of all stacks would thrash one L1 set
      WITH_RACES(t.place = {id.x + g.x * (id.y + g.y * id.z), i};)
      t.sp = make_stack(stacks + (i + 1) * sb - (i % 32) * 64, &entry); warps[t.warp].live |= 1u << t.lane;
    }
    live = n; arrived = at_grid = 0; votes = 0;
    WITH_RACES(begin_block(dyn, dyn_n);)
    for (unsigned first = order[0]; ; first = order[0]) {
      while (th[first].st == DONE) first = first + 1 == n ? 0 : first + 1;
      switch_to(&main_sp, &th[first]);
      if (!live) break;
      if (!grid) { fprintf(stderr, "cuda_emu: a barrier among blocks in a launch that is not cooperative\n"); abort(); }
      WITH_RACES(join(th[0].place.block, barrier);)
      grid->arrive(lock, barrier, barrier_count);
      for (auto &t : th) if (t.st == WAIT_GRID) { t.st = READY; WITH_RACES(t.place.grid_phase++; t.place.phase++;) }
      at_grid = 0;
    }
    if (grid) grid->end();
  }
};
inline Block *B() { return Block::self(); }

inline unsigned workers() { static unsigned n = getenv("EMU_THREADS") ? atoi(getenv("EMU_THREADS")) : std::thread::hardware_concurrency(); WITH_RACES(n = 1;) return n ? n : 1; }
// cooperative: every block gets its own OS thread, and so its own shared memory.
inline void launch(dim3 g, dim3 b, size_t dyn_bytes, bool cooperative, const std::function<void()> &f) {
  unsigned total = g.x * g.y * g.z; std::atomic<unsigned> next{0}; Grid grid{.blocks = total};
  auto work = [&] {
    static thread_local auto blk = std::make_unique<Block>();
    for (unsigned i; (i = next++) < total;)
      blk->run(g, b, {i % g.x, i / g.x % g.y, i / (g.x * g.y)}, dyn_bytes, f, cooperative ? &grid : nullptr);
  };
  unsigned n = cooperative ? total : std::min(workers(), total);
  if (n <= 1) return work();
  std::vector<std::jthread> pool; for (unsigned i = 0; i < n; i++) pool.emplace_back(work);
}
template <class... A, size_t... I> void call_packed(void (*k)(A...), void **p, std::index_sequence<I...>) { k(*(A *)p[I]...); }
struct Entry { const char *name; size_t nargs; const size_t *sizes; void (*invoke)(void **); Entry *next; };
inline Entry *&registry() { static Entry *e = nullptr; return e; }
template <class... A> Entry make_entry(const char *n, void (*)(A...), void (*inv)(void **)) {
  static const std::vector<size_t> s = [] { std::vector<size_t> v; ((v.push_back(sizeof(A)), v.push_back(alignof(A))), ...); return v; }();
  return {n, sizeof...(A), s.data(), inv, nullptr};
}
template <class... A> void invoke(void (*k)(A...), void **p) { call_packed(k, p, std::index_sequence_for<A...>{}); }
}  // namespace emu

#define threadIdx (emu::B()->cur->tid)
#define blockIdx (emu::B()->bid)
#define blockDim (emu::B()->bdim)
#define gridDim (emu::B()->gdim)
// after each kernel: names it for the launcher (nothing under nvcc)
#define EXPORT_KERNEL(k) \
  static emu::Entry emu_entry_##k = emu::make_entry(#k, &k, [](void **p) { emu::invoke(&k, p); }); \
  static int emu_reg_##k = (emu_entry_##k.next = emu::registry(), emu::registry() = &emu_entry_##k, 0);
#define DYNAMIC_SHARED(T, name) T *name = (T *)(((uintptr_t)emu::B()->dyn + 127) & ~(uintptr_t)127)

inline void __syncthreads() { emu::B()->syncthreads(); }
inline int __syncthreads_count(int p) { auto b = emu::B(); b->votes += p != 0; b->syncthreads(); return b->vote_result; }
inline int __syncthreads_or(int p) { return __syncthreads_count(p) > 0; }
inline void __syncwarp(unsigned m = ~0u) { emu::B()->syncwarp(m); }
inline void group_barrier(uint32_t *arrived, uint32_t count) { emu::B()->group_barrier(arrived, count); }
inline void start_next() {}
inline void await_previous() { WITH_RACES(emu::B()->cur->place.has_awaited = true;) }
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void __threadfence_block() {}
inline void __nanosleep(unsigned) { std::this_thread::yield(); }
namespace emu {
template <class T> T shfl(unsigned m, T v, int src, int w) {
  uint64_t raw = 0; static_assert(sizeof(T) <= 8); memcpy(&raw, &v, sizeof v);
  raw = B()->exchange(m, raw, src); T r; memcpy(&r, &raw, sizeof r); return r;
}
inline int lane() { return B()->cur->lane; }
}
template <class T> T __shfl_sync(unsigned m, T v, int s, int w = 32) { int l = emu::lane(); return emu::shfl(m, v, (l & ~(w - 1)) | (s & (w - 1)), w); }
template <class T> T __shfl_xor_sync(unsigned m, T v, int x, int w = 32) { int l = emu::lane(), s = l ^ x; return emu::shfl(m, v, (s & ~(w - 1)) > (l | (w - 1)) ? l : s, w); }
template <class T> T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32) { int l = emu::lane(); return emu::shfl(m, v, (l & (w - 1)) + (int)d < w ? l + (int)d : l, w); }
template <class T> T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32) { int l = emu::lane(); return emu::shfl(m, v, (l & (w - 1)) >= (int)d ? l - (int)d : l, w); }
inline unsigned __ballot_sync(unsigned m, int p) { return (unsigned)emu::B()->exchange(m, p != 0, emu::BALLOT); }
inline int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
inline int __all_sync(unsigned m, int p) { return __ballot_sync(m, !p) == 0; }
inline unsigned __activemask() { return emu::B()->warps[emu::B()->cur->warp].live; }

template <class T> T atomicAdd(T *p, std::type_identity_t<T> v) { return std::atomic_ref<T>(*p).fetch_add(v); }
template <class T> T atomicExch(T *p, std::type_identity_t<T> v) { return std::atomic_ref<T>(*p).exchange(v); }
template <class T> T atomicCAS(T *p, std::type_identity_t<T> c, std::type_identity_t<T> v) { std::atomic_ref<T>(*p).compare_exchange_strong(c, v); return c; }
template <class T> T atomicMax(T *p, std::type_identity_t<T> v) { std::atomic_ref<T> a(*p); T o = a.load(); while (o < v && !a.compare_exchange_weak(o, v)); return o; }
template <class T> T atomicMin(T *p, std::type_identity_t<T> v) { std::atomic_ref<T> a(*p); T o = a.load(); while (v < o && !a.compare_exchange_weak(o, v)); return o; }

// ---- arithmetic ---------------------------------------------------------------
inline float __fmul_rn(float a, float b) { return a * b; }  // compiled with -ffp-contract=off
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __ull2float_rn(unsigned long long a) { return (float)a; }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) { return (uint64_t)((unsigned __int128)a * b >> 64); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
  const uint64_t both = (uint64_t)y << 32 | x; unsigned r = 0;
  for (int i = 0; i < 4; i++) r |= (unsigned)(both >> (s >> 4 * i & 7) * 8 & 255) << 8 * i;
  return r;
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; i++) c += (int)(int8_t)(a >> 8 * i) * (int)(int8_t)(b >> 8 * i);
  return c;
}
namespace emu {
inline void copy_async(void *to, const void *from, unsigned size, unsigned valid) {
  if (((uintptr_t)to | (uintptr_t)(valid ? from : to)) % size) { fprintf(stderr, "cuda_emu: an asynchronous copy of %u bytes is not aligned\n", size); abort(); }
  WITH_RACES(note_copy(to, from, size, valid);)
  size_t i = B()->cur - B()->th.data(); B()->copies[i].push_back({to, from, size, valid, B()->groups[i]});
}
inline void commit_copies() { B()->groups[B()->cur - B()->th.data()]++; }
inline void wait_for_copies(unsigned num_left) { B()->wait_for_copies(num_left); }
inline float half_to_float(uint16_t h) { return (float)std::bit_cast<_Float16>(h); }
inline uint16_t float_to_half(float x) { return std::bit_cast<uint16_t>((_Float16)x); }
}
inline float __int_as_float(int a) { return std::bit_cast<float>(a); }
inline int __float_as_int(float a) { return std::bit_cast<int>(a); }
inline unsigned __float_as_uint(float a) { return std::bit_cast<unsigned>(a); }
inline float __uint_as_float(unsigned a) { return std::bit_cast<float>(a); }
template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
inline int __popc(unsigned v) { return std::popcount(v); }
inline int __ffs(int v) { return v ? std::countr_zero((unsigned)v) + 1 : 0; }
template <class T> T min(T a, std::type_identity_t<T> b) { return b < a ? b : a; }
template <class T> T max(T a, std::type_identity_t<T> b) { return a < b ? b : a; }
