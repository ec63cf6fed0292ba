/* The levels that this processor can run, best first. Compiled for the baseline, so it runs on every processor. */
#include <stddef.h>
#include <unistd.h>

#include "kernels.h"

long first_cache_bytes;

const struct kernels *const *available_kernels(void) {
#ifdef _SC_LEVEL1_DCACHE_SIZE
    first_cache_bytes = sysconf(_SC_LEVEL1_DCACHE_SIZE);
#endif
#ifdef __x86_64__
    static const struct kernels *const all[] = {&avx512_kernels, &avx2_kernels, &plain_kernels, NULL};
    __builtin_cpu_init();
    int has_avx2 = __builtin_cpu_supports("avx2");
    int has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("avx512vnni");
    return has_avx512 ? all : has_avx2 ? all + 1 : all + 2;
#else
    static const struct kernels *const all[] = {&plain_kernels, NULL};
    return all;
#endif
}
