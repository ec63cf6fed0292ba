"""The phases of a layer, in which all threads share rows or strips of outputs (N3 to N7).

Phases use scratch buffers that are kept from step to step, so a model runs one forward pass at a time. A method that
takes `members` is called by every thread and ends with a barrier.
"""

import numpy as np

from verbatim.fastpath.machine.dispatch cimport (
    GELU_TANH, GROUP, PACK, RELU2, SILU, STRIP, W8A8, address, is_blocked, matrix, quantized, rows_of, strip_of,
    table,
)
from verbatim.fastpath.model.adapters cimport DOWN, GATE, UP
from verbatim.fastpath.model.experts cimport routing
from verbatim.fastpath.numerics.packed cimport multiply_strip, num_strips, share_products
from verbatim.fastpath.machine.threads cimport claim, claim_along, finish_phase
from libc.string cimport memcpy

from verbatim.fastpath.model.attention import LOG2E
from verbatim.fastpath.numerics.packed import FORMATS
from verbatim.reference.numerics.quantization import BLOCKED_FORMATS, MIXED
from verbatim.reference.numerics.rotary import position_scales

cdef enum:
    GATED_ROWS = 128  # rows of a feed-forward work item: both its strips fit the L2 cache


cdef bint claim_rows(team *members, long rows, long *start, long *stop) noexcept nogil:
    """Claim the next row of a phase, or the next 16 of 64 or more; False when none is left."""
    cdef long size = 1 if rows < 64 else 16
    start[0] = claim(members) * size
    stop[0] = min(start[0] + size, rows)
    return start[0] < rows


cdef class Phases(Watched):
    """A decoder's shape, weights and scratch buffers, and the phases that its layers repeat."""

    def __init__(self, config, checkpoint, quantization, model_lib=None):
        self.config = config
        self.hidden, self.intermediate = config.hidden_size, config.intermediate_size
        self.num_layers, self.vocab_size, self.num_positions = config.num_layers, config.vocab_size, config.context_size
        shapes = [config.heads_of(index) for index in range(config.num_layers)]
        self.shape.num_heads, self.shape.num_kv_heads = config.num_heads, config.num_kv_heads
        self.shape.head_dim, self.shape.value_dim, self.item_rows = config.head_dim, config.head_dim, ITEM_ROWS
        self.query_width = config.num_heads * max([head_dim for _, head_dim in shapes])
        self.key_width = max([num_kv_heads * head_dim for num_kv_heads, head_dim in shapes])
        self.widest, cap = max(config.hidden_size, self.query_width), config.attention_softcap
        self.shape.cap, self.shape.cap_factor = cap or 0, (cap or 0) * LOG2E
        self.epsilon, self.residual_scale = config.norm_epsilon, config.residual_scale
        self.network_scale, self.gate_scale = config.residual_scale * config.feed_forward_scale, config.gate_scale
        self.has_beside = any(layer.has_mixer and layer.has_attention for layer in config.layers)
        self.activation = {"silu": SILU, "gelu_tanh": GELU_TANH, "relu2": RELU2}[config.activation]
        if config.clamped_gate is not None:
            self.gate_alpha, self.gate_limit = config.clamped_gate.alpha, config.clamped_gate.limit
        self.norms_heads, self.has_layer_norms = config.query_key_norm != "all", config.norm_type == "layer"
        self.weighs_heads, self.norms_rotated = config.query_key_norm == "heads", config.norms_rotated
        self.is_parallel, self.query_scales = config.norms == "parallel", NULL
        if config.position_scale is not None:
            self.owner = position_scales(config.position_scale, config.context_size)
            self.query_scales = <const float *>address(self.owner)
            self.only_scales_unrotated = config.position_scale.only_unrotated
        if config.experts:
            self.num_experts = config.experts.num_experts
            self.rule = routing(self.num_experts, config.experts.num_per_token, config.experts.num_groups,
                                config.experts.num_groups_per_token, config.experts.is_normalized,
                                config.experts.routing in ("sigmoid", "input"), config.experts.scale,
                                config.experts.least_sum, NULL)
            self.is_sparsemixer = config.experts.routing == "sparsemixer"
            self.weighs_inputs = config.experts.routing == "input"
            self.tolerance = config.experts.tolerance
            self.intermediate = max(config.intermediate_size, config.experts.intermediate_size,
                                    config.experts.shared_size)
        self.has_cutoffs = any([layer.cutoff is not None for layer in config.layers])
        self.intermediate = max(self.intermediate, max([layer.intermediate_size or 0 for layer in config.layers]))
        self.weights, self.adapters = Layers(config, checkpoint, quantization, model_lib), Adapters(config.layers)
        self.is_quantized, self.is_mixed = quantization is not None, quantization in MIXED
        self.format = FORMATS[quantization] if quantization in BLOCKED_FORMATS else W8A8

    cdef _reserve(self, long rows):
        """Allocate scratch buffers for that many rows."""
        cdef bint keeps_gated = (
            not self.is_quantized or self.is_mixed or self.has_cutoffs or is_blocked(self.format)
            or self.adapters.has_any()
        )
        if rows <= self.capacity and (self.keeps_gated or not keeps_gated):
            return
        rows, self.keeps_gated = max(rows, self.capacity), keeps_gated
        widths = {"normed": self.hidden, "queries": self.query_width, "keys": self.key_width,
                  "values": self.key_width, "attended": self.query_width, "projected": self.hidden,
                  "beside": self.hidden if self.has_beside else 0,
                  "gates": self.query_width if self.config.has_output_gate else 0,
                  "ups": self.intermediate if self.has_cutoffs else 0,
                  "gated": self.intermediate if keeps_gated else 0,
                  "scores": self.num_experts, "shared_scores": 1 if self.num_experts else 0,
                  "gathered": self.hidden if self.num_experts else 0,
                  "expert_output": self.hidden if self.num_experts else 0}
        self.scratch = {name: np.empty((rows, width), np.float32) for name, width in widths.items()}
        self.normed = <float *>address(self.scratch["normed"])
        self.queries = <float *>address(self.scratch["queries"])
        self.keys = <float *>address(self.scratch["keys"])
        self.values = <float *>address(self.scratch["values"])
        self.attended = <float *>address(self.scratch["attended"])
        self.gates = <float *>address(self.scratch["gates"])
        self.projected = <float *>address(self.scratch["projected"])
        self.beside = <float *>address(self.scratch["beside"])
        self.gated, self.ups = <float *>address(self.scratch["gated"]), <float *>address(self.scratch["ups"])
        self.scores = <float *>address(self.scratch["scores"])
        self.shared_scores = <float *>address(self.scratch["shared_scores"])
        self.gathered = <float *>address(self.scratch["gathered"])
        self.expert_output = <float *>address(self.scratch["expert_output"])
        self.rounded = Activations(rows, self.widest, self.format)
        self.rounded_gated = Activations(rows if self.is_quantized else 0, self.intermediate, self.format)
        self.capacity = rows

    cdef void _norm(self, team *members, const float *weight, const float *bias) noexcept nogil:
        """Norm the batch's rows."""
        cdef long start, stop
        while claim_rows(members, self.step.rows, &start, &stop):
            self._norm_rows(weight, bias, start, stop)
        finish_phase(members)

    cdef void _norm_rows(self, const float *weight, const float *bias, long start, long stop) noexcept nogil:
        """Write rows of x, normed (N5) unless the family has no norm here, to `normed`, and round them (N4)."""
        cdef long at = start * self.hidden
        if weight == NULL:
            memcpy(self.normed + at, self.step.x + at, (stop - start) * self.hidden * sizeof(float))
        else:
            self._norm_into(self.step.x + at, weight, bias, stop - start, self.normed + at)
        self._round_rows(self.normed, self.hidden, start, stop)

    cdef void _norm_into(self, const float *x, const float *weight, const float *bias, long rows,
                         float *y) noexcept nogil:
        """Norm rows of the hidden size (N5), as the family does."""
        self._norm_sized(x, weight, bias, rows, self.hidden, y)

    cdef void _norm_sized(self, const float *x, const float *weight, const float *bias, long rows, long size,
                          float *y) noexcept nogil:
        if self.has_layer_norms:
            table().layer_norm(x, weight, bias, self.epsilon, rows, size, y)
        else:
            table().rms_norm(x, weight, self.epsilon, rows, size, y)

    cdef void _round(self, team *members, const float *x, long rows, long width) noexcept nogil:
        """Round x to integers, for quantised weights (N4, N4b)."""
        cdef long start, stop
        if not self.is_quantized:
            return
        while claim_rows(members, rows, &start, &stop):
            self._round_rows(x, width, start, stop)
        finish_phase(members)

    cdef void _round_rows(self, const float *x, long width, long start, long stop) noexcept nogil:
        if self.is_quantized:
            self._round_into(&self.rounded.c, x, width, start, stop)

    cdef void _round_into(self, const quantized *rounded, const float *x, long width, long start,
                          long stop) noexcept nogil:
        cdef quantized part = rows_of(rounded, start, (width + GROUP - 1) // GROUP)
        table().quantize(x + start * width, stop - start, width, self.format, &part)

    cdef void _round_gated(self, const float *x, long width, long start, long stop) noexcept nogil:
        """The same in the buffer for what comes before a network's last matrix, which is no wider."""
        if self.is_quantized:
            self._round_into(&self.rounded_gated.c, x, width, start, stop)

    cdef void _multiply(self, team *members, const product *products, long count) noexcept nogil:
        share_products(members, products, count)
        finish_phase(members)

    cdef void _multiply_adapted(self, team *members, const product *products, long count, long layer,
                                long place) noexcept nogil:
        """Products of all rows with the matrices of a layer from `place` on, and what adapters add to them."""
        if self.adapters.num_runs and layer >= 0:
            self.adapters.multiply(members, products, count, layer, place)
        else:
            self._multiply(members, products, count)

    cdef void _gate(self, team *members, const gated *part, const float *x, long rows, float *y,
                    long layer) noexcept nogil:
        """y = down(activation(gate(x)) * up(x)); for quantised weights the rows are already rounded.

        Without a gate, y = down(activation(up(x))). `layer` is that of a dense network, whose rows are the batch's and
        may have adapters, or -1.
        """
        cdef long strips = num_strips(&part.up), item, start, stop
        cdef long items = (rows + GATED_ROWS - 1) // GATED_ROWS * strips
        cdef product down = product(&part.down, self.gated, &self.rounded_gated.c, rows, y)
        layer = layer if self.adapters.num_runs else -1
        if layer >= 0:
            self.adapters.lower(members, x, layer, GATE, 2)
        item = claim_along(members, items)
        while item < items:
            start = item // strips * GATED_ROWS
            self._gate_strip(part, x, start, min(<long>GATED_ROWS, rows - start), item % strips, layer)
            item = claim_along(members, items)
        finish_phase(members)
        if is_blocked(self.format):  # a block is four strips wide
            while claim_rows(members, rows, &start, &stop):
                self._round_gated(self.gated, part.down.inputs, start, stop)
            finish_phase(members)
        self._multiply_adapted(members, &down, 1, layer, DOWN)

    cdef void _gate_strip(self, const gated *part, const float *x, long start, long rows, long strip,
                          long layer) noexcept nogil:
        """A strip of activation(gate(x)) * up(x); for quantised weights its floats stay in the processor's cache."""
        cdef float[2 * GATED_ROWS * STRIP + PACK] buffer
        cdef float *gate = buffer + (64 - <size_t>buffer % 64) % 64 // sizeof(float)
        cdef float *up = gate + GATED_ROWS * STRIP
        cdef long intermediate = part.up.outputs, inputs = part.up.inputs, column = strip * STRIP, row
        cdef bint has_gate = part.gate.weights != NULL
        cdef matrix up_strip = strip_of(&part.up, strip)
        cdef matrix gate_strip = strip_of(&part.gate, strip) if has_gate else up_strip
        cdef long width = up_strip.outputs, groups = (intermediate + GROUP - 1) // GROUP
        cdef quantized rounded = rows_of(&self.rounded.c, start, (inputs + GROUP - 1) // GROUP)
        cdef product gates = product(&gate_strip, x + start * inputs, &rounded, rows, gate)
        cdef product ups = product(&up_strip, x + start * inputs, &rounded, rows, up)
        multiply_strip(&gates, 0)
        if layer >= 0 and has_gate:
            self.adapters.add_strip(layer, GATE, 0, gate, start, rows, strip, width)
        if has_gate:
            if self.gate_scale != 1:
                table().scale(gate, rows * width, self.gate_scale)
            multiply_strip(&ups, 0)
        if layer >= 0:
            self.adapters.add_strip(layer, UP, 1, up if has_gate else gate, start, rows, strip, width)
        if has_gate:
            self._gate_rows(gate, up, rows * width)
        else:
            table().activate(gate, rows * width, self.activation, gate)
        for row in range(rows):
            if part.down.format >= W8A8 and not is_blocked(self.format):
                rounded = rows_of(&self.rounded_gated.c, 1, (start + row) * groups + column // GROUP)
                table().quantize(gate + row * width, 1, width, self.format, &rounded)
            if part.down.format < W8A8 or is_blocked(self.format) or layer >= 0:
                memcpy(self.gated + (start + row) * intermediate + column, gate + row * width, width * sizeof(float))

    cdef void _gate_rows(self, float *gate, const float *up, long count) noexcept nogil:
        """gate = activation(gate) * up, or the clamped gate of the family (N9a)."""
        if self.gate_limit:
            table().clamped_gate(gate, up, count, self.gate_alpha, self.gate_limit)
        else:
            table().gate(gate, up, count, self.activation)

    cdef void _add(self, team *members, const float *norm, const float *next_norm, const float *next_bias,
                   bint norms_next, float scale) noexcept nogil:
        """Add a sublayer's output, normed and scaled as the family does, to x; norm x for the next sublayer."""
        cdef long start, stop, at
        while claim_rows(members, self.step.rows, &start, &stop):
            at = start * self.hidden
            if norm != NULL:
                self._norm_into(self.projected + at, norm, NULL, stop - start, self.projected + at)
            table().add(self.step.x + at, self.projected + at, (stop - start) * self.hidden, scale)
            if norms_next:
                self._norm_rows(next_norm, next_bias, start, stop)
        finish_phase(members)
