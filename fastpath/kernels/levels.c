/* The levels that this processor can run, best first. Compiled for the baseline, so it runs on every processor. */
#include <stddef.h>
#include <unistd.h>

#include "kernels.h"

long first_cache_bytes;

const struct kernels *const *available_kernels(void) {
    static const struct kernels *found[6]; /* the last stays NULL */
    int count = 0;
#ifdef _SC_LEVEL1_DCACHE_SIZE
    first_cache_bytes = sysconf(_SC_LEVEL1_DCACHE_SIZE);
#endif
#ifdef __x86_64__
    __builtin_cpu_init();
    int has_avx2 = __builtin_cpu_supports("avx2");
    int has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("avx512vnni");
    const struct kernels *amx = has_avx512 ? amx_kernels() : NULL, *avxvnni = has_avx2 ? avxvnni_kernels() : NULL;
    if (amx) found[count++] = amx;
    if (has_avx512) found[count++] = &avx512_kernels;
    if (avxvnni) found[count++] = avxvnni;
    if (has_avx2) found[count++] = &avx2_kernels;
#endif
    found[count] = &plain_kernels;
    return found;
}
