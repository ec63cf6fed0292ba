/* The table of one level; the including file defines WIDTH and the sizes of tiles first. */
#include "vector.h"
#include "elementwise.h"
#include "narrow.h"
#include "recurrence.h"
#include "mamba.h"
#include "tiles.h"
#include "superblocks.h"
#include "products.h"
#include "blocks.h"
#include "block_products.h"
#include "latents.h"
#include "states.h"
#include "delta.h"
#include "pages.h"
#include "attention.h"
#include "probe.h"

const struct kernels TABLE = {
    .name = NAME,
    .narrow = narrow_all,
    .widen = widen_all,
    .lane_sum = lane_sum,
    .linear = linear,
    .linear_apart = linear_apart,
    .quantize = quantize,
    .linear_quantized = linear_quantized,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .rotate = rotate,
    .unit_rows = unit_rows,
    .decay_steps = decay_steps,
    .delta_rule = delta_rule,
    .exp2 = exp2_all,
    .log2 = log2_all,
    .activate = activate_all,
    .softcap = softcap_all,
    .gate = gate_all,
    .clamped_gate = clamped_gate,
    .add = add_all,
    .softplus = softplus_all,
    .gated_norm = gated_norm,
    .mamba_steps = mamba_steps,
    .mamba_scan = mamba_scan,
    .scale = scale_all,
    .multiply = multiply_all,
    .attend = attend,
    .convolve = convolve,
    .keep_tail = keep_tail,
    .multiply_rows = multiply_rows,
    .peak = peak,
    .find = find,
    .weigh = weigh,
    .total = total,
    .draw = draw,
    .probe_read = probe_read,
    .probe_integers = probe_integers,
    .probe_floats = probe_floats,
};
