"""Causal attention of new tokens to themselves and to those before them, whose keys and values are in a cache.

softmax(q @ k.T * scale) @ v: Vaswani et al. 2017, section 3.2. The new tokens are those of several texts, one after
another. Keys are stored transposed, so that a vector holds the same element of `W` keys; a score is one chain of
multiply-adds over `head_dim`, and a mixed value one over the tokens, where a token that is not to be seen counts
exactly zero. So what comes out for a token has the same bits whatever is computed along with it.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from extensibility.managed_tensor_slice import _MutableInputTensor as MutableInputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from max.runtime.asyncrt import parallelism_level
from std.math import ceildiv

from .attention_head import Head, append, attend

#: So many tokens of a text are one piece of work, for one head.
comptime PIECE = 48


@extensibility.register("gpt2.attention")
struct Attention:
    """[tokens, 3 * n_embd] -> [tokens, n_embd]; the new keys and values are put into the cache.

    `keys` is [n_layer, slots, n_head, head_dim, room] and `values` [n_layer, slots, n_head, room, head_dim], with a
    room that is a multiple of 64. Text i has the tokens [offsets[i], offsets[i + 1]); `lengths[i]` others of it are in
    the cache already, in its slot `slots[i]`. All of these are int64.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=2, ...],
        qkv: InputTensor[dtype=DType.float32, rank=2, ...],
        keys: MutableInputTensor[dtype=DType.float32, rank=5, ...],
        values: MutableInputTensor[dtype=DType.float32, rank=5, ...],
        offsets: InputTensor[dtype=DType.int64, rank=1, ...],
        lengths: InputTensor[dtype=DType.int64, rank=1, ...],
        slots: InputTensor[dtype=DType.int64, rank=1, ...],
        layer: Scalar[DType.int64],
        scale: Scalar[DType.float32],
        ctx: DeviceContext,
    ) raises:
        var texts = lengths.dim_size(0)
        var n_head = keys.dim_size(2)
        var dim = keys.dim_size(3)
        var room = keys.dim_size(4)
        var first_slot = Int(layer) * keys.dim_size(1)
        var size = dim * room
        var qkv_at = qkv.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var keys_at = keys.unsafe_ptr()
        var values_at = values.unsafe_ptr()
        var offsets_at = offsets.unsafe_ptr()
        var lengths_at = lengths.unsafe_ptr()
        var slots_at = slots.unsafe_ptr()

        var longest = 0
        for text in range(texts):
            longest = max(longest, Int(offsets_at.unsafe_load(text + 1) - offsets_at.unsafe_load(text)))
        var pieces = ceildiv(longest, PIECE)

        def work[appends: Bool, attends: Bool](text: Int, h: Int, piece: Int) {var}:
            var start = Int(offsets_at.unsafe_load(text))
            var seq = Int(offsets_at.unsafe_load(text + 1)) - start
            var length = Int(lengths_at.unsafe_load(text))
            var first = piece * PIECE
            var last = min(first + PIECE, seq)
            if first < last:
                var cached = ((first_slot + Int(slots_at.unsafe_load(text))) * n_head + h) * size
                var head = Head(h, n_head, dim, room)
                var new = qkv_at.unsafe_offset(start * 3 * n_head * dim)
                var to = y_at.unsafe_offset(start * n_head * dim)
                comptime if appends:
                    append(head, new, keys_at.unsafe_offset(cached), values_at.unsafe_offset(cached), length, first, last)
                comptime if attends:
                    attend(
                        head, new, keys_at.unsafe_offset(cached), values_at.unsafe_offset(cached), to, scale, length, first, last
                    )

        def one_piece(task: Int) {var}:
            work[True, True](task // n_head, task % n_head, 0)

        def append_piece(task: Int) {var}:
            work[True, False](task // n_head // pieces, task % n_head, task // n_head % pieces)

        def attend_piece(task: Int) {var}:
            work[False, True](task // n_head // pieces, task % n_head, task // n_head % pieces)

        if pieces == 1:
            sync_parallelize(one_piece, texts * n_head)
        else:  # all keys have to be there before a later piece looks at them
            sync_parallelize(append_piece, texts * n_head * pieces)
            sync_parallelize(attend_piece, texts * n_head * pieces)
