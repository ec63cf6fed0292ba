/* Plain C for any processor: vectors of four floats: SSE2 on x86-64, NEON on ARM, loops elsewhere. */
#define TABLE plain_kernels
#define NAME "plain"
#define WIDTH 4
#define FLOAT_ROWS 2
#define FLOAT_VECTORS 4
#define INTEGER_ROWS 2
#include "table.h"
