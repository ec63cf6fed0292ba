// races.cpp: tells every two accesses of one place, at least one a store, that nothing orders.
//
// The compiler calls what is below for each load and store (-fsanitize=thread, but this is in place of its library). Orders:
// __syncthreads for a block; __syncwarp for the lanes that group_barrier there, while shuffles and votes order nothing, as CUDA has it;
// `group_barrier` for blocks that share a counter; the end of a launch. A launch that overlaps the one ahead of it (programmatic
// dependent launch) is ordered behind it only once its threads have waited, and must wait before it ends. Atomic operations
// do not race each other. Each 4 bytes keep their last few accesses, as LLVM's ThreadSanitizer does
// (https://github.com/google/sanitizers/wiki/ThreadSanitizerAlgorithm); so a race may be missed, none is made up. A block at
// a time runs (EMU_THREADS=1): what is found does not depend on luck.
#include "races.h"
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <initializer_list>
#include <link.h>
#include <unordered_map>

namespace emu {
namespace {
enum { CELLS = 4, PAGE = 4096, WORD = 4, MOST_TOLD = 5 };
enum AccessType : uint8_t { LOAD, STORE, ATOMIC };
enum Memory : uint8_t { GLOBAL, DYNAMIC, OWN };  // both others are shared; own: in __shared__ variables

struct Access {
  unsigned launch = 0, block, thread, phase, grid_phase, passed;  // passed: barriers of its warp; launch 0: nothing yet
  uint8_t bytes; AccessType type; const void *code;
};
struct Page { Memory memory; Access of[PAGE / WORD][CELLS]; };

std::unordered_map<uintptr_t, Page *> pages;
Page *recent[1024]; uintptr_t recent_numbers[1024];
thread_local Place *here = nullptr;
thread_local uintptr_t own_begin = 0, own_end = 0;  // __shared__ variables are this library's thread_local ones
const char *kernel = "";
unsigned launch = 0, complete = 0;  // launches up to `complete` have ended before this one could begin
unsigned told = 0, next_cell = 0;
std::unordered_map<unsigned, const void *> group_barriers;  // of the blocks of this launch

Page *page_at(uintptr_t number) {
  auto &slot = recent[number % 1024];
  if (recent_numbers[number % 1024] == number && slot) return slot;
  auto found = pages.find(number);
  if (found == pages.end()) return nullptr;
  if (!found->second) found->second = new Page{GLOBAL, {}};
  recent_numbers[number % 1024] = number;
  return slot = found->second;
}

bool share_barrier(unsigned a, unsigned b) {
  const auto mine = group_barriers.find(a), other = group_barriers.find(b);
  return mine != group_barriers.end() && other != group_barriers.end() && mine->second == other->second;
}

bool is_ordered(const Access &past, bool is_shared) {
  if (past.launch != launch) return is_shared || past.launch <= complete || here->has_awaited;
  if (past.block != here->block) return is_shared || (past.grid_phase < here->grid_phase && share_barrier(past.block, here->block));
  if (past.thread == here->thread || past.phase < here->phase) return true;
  return past.thread / 32 == here->thread / 32 && past.passed <= here->seen[past.thread % 32];
}

void tell(const Access &past, uintptr_t at, AccessType type, const void *code, bool is_shared) {
  static const char *const names[] = {"load", "store", "atomic operation"};
  if (told++ >= MOST_TOLD) return;
  fprintf(stderr, "race in %s, %s memory, %#zx: %s by block %u, thread %u%s, and nothing orders it behind the %s of ", kernel,
          is_shared ? "shared" : "global", (size_t)at, names[type], here->block, here->thread,
          here->has_awaited ? "" : " (which has not waited)", names[past.type]);
  if (past.launch == launch) fprintf(stderr, "block %u, thread %u\n", past.block, past.thread);
  else fprintf(stderr, "a launch before\n");
  for (const void *where : {code, past.code}) {
    Dl_info library;
    if (dladdr(where, &library))
      fprintf(stderr, "  addr2line -ifCe %s %#zx\n", library.dli_fname, (size_t)where - (size_t)library.dli_fbase - 1);
  }
}

void note_word(Access *cells, uintptr_t at, const Access &now, bool is_shared) {
  Access *into = nullptr;
  for (int i = 0; i < CELLS; i++) {
    Access &past = cells[i];
    if (!past.launch) { if (!into) into = &past; continue; }
    const bool orders = is_ordered(past, is_shared);
    if (!orders && past.bytes & now.bytes && (past.type != LOAD || now.type != LOAD) &&
        !(past.type == ATOMIC && now.type == ATOMIC))
      tell(past, at, now.type, now.code, is_shared);
    // The new access replaces the old one: what is ordered behind it is ordered behind the old one, too.
    if (orders && !(past.bytes & ~now.bytes) && (now.type == STORE || past.type == now.type)) into = &past;
  }
  *(into ? into : &cells[next_cell++ % CELLS]) = now;
}

void note(uintptr_t at, size_t size, AccessType type, const void *code) {
  if (!here) return;
  const bool is_own = at >= own_begin && at < own_end;
  for (const uintptr_t end = at + size; at < end;) {
    const uintptr_t word = at & ~(uintptr_t)(WORD - 1), stop = word + WORD < end ? word + WORD : end;
    if (is_own && !page_at(at / PAGE)) pages[at / PAGE] = new Page{OWN, {}};
    if (Page *page = page_at(at / PAGE); page && is_own == (page->memory == OWN)) {
      const uint8_t bytes = ((1u << (stop - at)) - 1) << (at - word);
      const Access now{launch, here->block, here->thread, here->phase, here->grid_phase, here->seen[here->thread % 32] + 1,
                       bytes, type, code};
      note_word(page->of[at % PAGE / WORD], at, now, page->memory != GLOBAL);
    }
    at = stop;
  }
}

int find_own(dl_phdr_info *info, size_t, void *) {
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const auto &part = info->dlpi_phdr[i];
    const uintptr_t begin = info->dlpi_addr + part.p_vaddr, code = (uintptr_t)&find_own;
    if (part.p_type != PT_LOAD || code < begin || code >= begin + part.p_memsz) continue;
    for (int j = 0; j < info->dlpi_phnum; j++)
      if (info->dlpi_phdr[j].p_type == PT_TLS && info->dlpi_tls_data) {
        own_begin = (uintptr_t)info->dlpi_tls_data;
        own_end = own_begin + info->dlpi_phdr[j].p_memsz;
      }
    return 1;
  }
  return 0;
}
}  // namespace

static void watch_as(Memory memory_type, const void *memory, size_t size, bool is_there) {
  memset(recent, 0, sizeof recent);
  for (uintptr_t number = (uintptr_t)memory / PAGE; number <= ((uintptr_t)memory + size - 1) / PAGE; number++) {
    auto &page = pages[number];
    if (is_there && page && page->memory == memory_type) continue;
    delete page;
    page = is_there && memory_type != GLOBAL ? new Page{memory_type, {}} : nullptr;
    if (!is_there) pages.erase(number);
  }
}
void watch(const void *memory, size_t size, bool is_there) { watch_as(GLOBAL, memory, size, is_there); }
void begin_launch(const char *name, bool overlaps) {
  kernel = name, told = 0;
  group_barriers.clear();
  if (!overlaps) complete = launch;
  launch++;
}
bool end_launch() { return !told; }
void begin_block(const void *shared, size_t size) {
  here = nullptr;
  if (!own_begin) dl_iterate_phdr(find_own, nullptr);
  watch_as(DYNAMIC, shared, size, true);
}
void enter(Place *place) {
  here = place;
  if (here && complete + 1 == launch) here->has_awaited = true;
}
void join(unsigned block, const void *barrier) { group_barriers[block] = barrier; }
void leave() {
  if (here->has_awaited || told++ >= MOST_TOLD) return;
  fprintf(stderr, "race in %s: block %u, thread %u ends without having waited\n", kernel, here->block, here->thread);
}
void sync_lanes(Place *first, size_t stride, unsigned lanes) {
  unsigned most[32] = {};
  const auto place = [&](int lane) { return (Place *)((char *)first + lane * stride); };
  for (int lane = 0; lane < 32; lane++) {
    if (!(lanes >> lane & 1)) continue;
    for (int i = 0; i < 32; i++) most[i] = place(lane)->seen[i] > most[i] ? place(lane)->seen[i] : most[i];
    most[lane] = place(lane)->seen[lane] + 1;
  }
  for (int lane = 0; lane < 32; lane++)
    if (lanes >> lane & 1) memcpy(place(lane)->seen, most, sizeof most);
}
__attribute__((noinline)) void note_copy(const void *to, const void *from, size_t size, size_t valid) {
  note((uintptr_t)from, valid, LOAD, __builtin_return_address(0));
  note((uintptr_t)to, size, STORE, __builtin_return_address(0));
}
}  // namespace emu

#define NOTE(NAME, SIZE, TYPE) \
  extern "C" void __tsan_##NAME##SIZE(void *at) { emu::note((uintptr_t)at, SIZE, emu::TYPE, __builtin_return_address(0)); }
#define NOTES(NAME, TYPE) NOTE(NAME, 1, TYPE) NOTE(NAME, 2, TYPE) NOTE(NAME, 4, TYPE) NOTE(NAME, 8, TYPE) NOTE(NAME, 16, TYPE)
NOTES(read, LOAD) NOTES(write, STORE) NOTES(unaligned_read, LOAD) NOTES(unaligned_write, STORE)
extern "C" void __tsan_read_range(void *at, size_t size) { emu::note((uintptr_t)at, size, emu::LOAD, __builtin_return_address(0)); }
extern "C" void __tsan_write_range(void *at, size_t size) { emu::note((uintptr_t)at, size, emu::STORE, __builtin_return_address(0)); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_vptr_read(void **) {}
extern "C" void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#define ATOMIC_ACCESS emu::note((uintptr_t)at, sizeof *at, emu::ATOMIC, __builtin_return_address(0))
#define ATOMICS(BITS, T)                                                                                                       \
  extern "C" T __tsan_atomic##BITS##_load(const T *at, int) { ATOMIC_ACCESS; return __atomic_load_n(at, __ATOMIC_SEQ_CST); }  \
  extern "C" void __tsan_atomic##BITS##_store(T *at, T x, int) { ATOMIC_ACCESS; __atomic_store_n(at, x, __ATOMIC_SEQ_CST); }  \
  extern "C" T __tsan_atomic##BITS##_exchange(T *at, T x, int) { ATOMIC_ACCESS; return __atomic_exchange_n(at, x, __ATOMIC_SEQ_CST); } \
  extern "C" T __tsan_atomic##BITS##_fetch_add(T *at, T x, int) { ATOMIC_ACCESS; return __atomic_fetch_add(at, x, __ATOMIC_SEQ_CST); } \
  extern "C" T __tsan_atomic##BITS##_fetch_sub(T *at, T x, int) { ATOMIC_ACCESS; return __atomic_fetch_sub(at, x, __ATOMIC_SEQ_CST); } \
  extern "C" int __tsan_atomic##BITS##_compare_exchange_strong(T *at, T *old, T x, int, int) {                                 \
    ATOMIC_ACCESS; return __atomic_compare_exchange_n(at, old, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }               \
  extern "C" int __tsan_atomic##BITS##_compare_exchange_weak(T *at, T *old, T x, int, int) {                                   \
    ATOMIC_ACCESS; return __atomic_compare_exchange_n(at, old, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }
ATOMICS(8, uint8_t) ATOMICS(32, uint32_t) ATOMICS(64, uint64_t)
