"""Stage 3: an MLP and an attention layer over the ranks, with one all-reduce in each direction."""

import numpy as np

from pytest_llmgrind import check, given, rule, st
from pytest_llmgrind.cluster import Cluster, per_rank

from . import common

N = 2000  # additions behind an element: three products, a softmax and the sums over rows
LEADING = st.sampled_from([(2, 3), (3,), (1, 1, 2), (), (0,)])
PER_RANK = st.sampled_from([2, 1, 3])


class Block:
    """Parameters, x and d_y, drawn in this order, and the ranks' parts of the parameters."""

    def __repr__(self):
        return self.words  # Hypothesis shows the example that failed by it

    def by_columns_first(self):
        """The same block in arrays that lie in memory column after column."""
        self.x, self.d_y = map(common.by_columns_first, (self.x, self.d_y))
        self.parts = [common.by_columns_first(part) for part in self.parts]
        self.words += ", arrays lie in memory column after column"


class MLP(Block):
    """relu between two linear layers."""

    def __init__(self, seed, size, leading, C, F, dtype=np.float64):
        rng = np.random.default_rng(seed)
        self.params = common.mlp_params(rng, C, F, dtype)
        self.x = common.normal(rng, *leading, C, dtype=dtype)
        self.d_y = common.normal(rng, *leading, C, dtype=dtype)
        self.size = size
        self.parts = [common.mlp_part(self.params, rank, size) for rank in range(size)]
        shape = f"x {self.x.shape}, F={F}"
        self.words = f"MLP, seed {seed}, {size} ranks, {shape}, {np.dtype(dtype)}"

    def close_every_other_unit(self):
        """Their columns of w_in and b_in become 0, and so does what goes into relu."""
        self.params["w_in"][:, ::2] = self.params["b_in"][::2] = 0
        self.parts = [common.mlp_part(self.params, rank, self.size) for rank in range(self.size)]
        self.words += ", every other unit has w_in and b_in of 0"

    def forward(self, solution):
        args = self.x, per_rank(self.parts)
        return common.run(solution.parallel_mlp, *args, size=self.size, given=self.words)

    def backward(self, solution):
        args = self.d_y, self.x, per_rank(self.parts)
        return common.run(solution.parallel_mlp_backward, *args, size=self.size, given=self.words)

    def want(self, reference):
        return common.mlp(self.x, self.params)

    def want_backward(self, reference):
        d_x, d_params = common.mlp_backward(self.d_y, self.x, self.params)
        return d_x, [common.mlp_part(d_params, rank, self.size) for rank in range(self.size)]


class Attention(Block):
    """Causal self-attention."""

    def __init__(self, seed, size, B, T, C, H, D, dtype=np.float64):
        rng = np.random.default_rng(seed)
        self.params = common.attention_params(rng, C, H, D, dtype)
        self.x = common.normal(rng, B, T, C, dtype=dtype)
        self.d_y = common.normal(rng, B, T, C, dtype=dtype)
        self.size, self.H = size, H
        self.parts = [common.attention_part(self.params, H, rank, size) for rank in range(size)]
        shape = f"x {self.x.shape}, n_heads={H}, D={D}"
        self.words = f"attention, seed {seed}, {size} ranks, {shape}, {np.dtype(dtype)}"

    def forward(self, solution):
        args, keywords = (self.x, per_rank(self.parts)), {"n_heads": self.H, "given": self.words}
        return common.run(solution.parallel_attention, *args, size=self.size, **keywords)

    def backward(self, solution):
        args = self.d_y, self.x, per_rank(self.parts)
        keywords = {"n_heads": self.H, "given": self.words}
        return common.run(solution.parallel_attention_backward, *args, size=self.size, **keywords)

    def want(self, reference):
        one = Cluster(1).run(reference.parallel_attention, self.x, self.params, n_heads=self.H)
        return one.results[0]

    def want_backward(self, reference):
        args = self.d_y, self.x, self.params
        one = Cluster(1).run(reference.parallel_attention_backward, *args, n_heads=self.H)
        d_x, d_params = one.results[0]
        ranks = range(self.size)
        return d_x, [common.attention_part(d_params, self.H, rank, self.size) for rank in ranks]


mlps = st.builds(
    lambda seed, size, leading, C, hidden: MLP(seed, size, leading, C, hidden * size),
    seed=common.SEEDS,
    size=common.SIZES,
    leading=LEADING,
    C=st.sampled_from([3, 1, 4]),
    hidden=PER_RANK,
)
attentions = st.builds(
    lambda seed, size, B, T, C, heads, D: Attention(seed, size, B, T, C, heads * size, D),
    seed=common.SEEDS,
    size=common.SIZES,
    B=st.sampled_from([2, 1]),
    T=st.sampled_from([3, 1, 4]),
    C=st.sampled_from([3, 1, 4]),
    heads=PER_RANK,
    D=st.sampled_from([2, 1, 3]),
)
EITHER = st.one_of(mlps, attentions)


@rule("R15")
@given(block=mlps)
def test_an_mlp_is_cut_by_its_hidden_units(solution, block):
    for rank, want in enumerate(block.parts):
        saw = solution.shard_mlp(block.params, rank=rank, size=block.size)

        check_part(saw, want, rank, block)


@rule("R15")
@given(block=attentions)
def test_attention_is_cut_by_heads(solution, block):
    for rank, want in enumerate(block.parts):
        keywords = {"n_heads": block.H, "rank": rank, "size": block.size}
        saw = solution.shard_attention(block.params, **keywords)

        check_part(saw, want, rank, block)


def check_part(saw, want, rank, block):
    names = sorted(saw) if isinstance(saw, dict) else type(saw).__name__
    check.equal(names, sorted(want), what=f"names of rank {rank}'s part", given=block.words)
    for name, array in want.items():
        what = f"{name} of rank {rank}'s part"
        check.equal(saw[name], array, moved=True, what=what, given=block.words)


@rule("R16")
@given(block=EITHER)
def test_every_rank_gets_the_whole_output(solution, reference, block):
    want = block.want(reference)

    ran = block.forward(solution)

    for rank, saw in enumerate(ran.results):
        check.close(saw, want, n=N, what=f"y on rank {rank}", given=block.words)


@rule("R17")
@given(block=EITHER)
def test_gradients_are_parts_of_the_whole_ones(solution, reference, block):
    d_x, d_parts = block.want_backward(reference)

    ran = block.backward(solution)

    for rank, result in enumerate(ran.results):
        saw_x, saw_params = pair(result, rank, block)
        check.close(saw_x, d_x, n=N, what=f"d_x on rank {rank}", given=block.words)
        what = f"the gradients on rank {rank}"
        common.check_dicts(saw_params, d_parts[rank], n=N, what=what, given=block.words)


def pair(result, rank, block):
    fine = isinstance(result, tuple) and len(result) == 2
    check.that(fine, saw=f"rank {rank} did not return (d_x, d_params)", given=block.words)
    return result


@rule("R17")
@given(size=common.SIZES, seed=common.SEEDS)
def test_a_unit_at_zero_passes_no_gradient(solution, size, seed):
    block = MLP(seed, size, (2, 3), 3, 2 * size)
    block.close_every_other_unit()
    d_x, d_params = common.mlp_backward(block.d_y, block.x, block.params)

    ran = block.backward(solution)

    for rank, result in enumerate(ran.results):
        saw_x, saw_params = pair(result, rank, block)
        check.close(saw_x, d_x, n=N, what=f"d_x on rank {rank}", given=block.words)
        want = common.mlp_part(d_params, rank, size)
        what = f"the gradients on rank {rank}"
        common.check_dicts(saw_params, want, n=N, what=what, given=block.words)


@rule("R17")
@given(size=common.SIZES, seed=common.SEEDS)
def test_blocks_may_lie_in_memory_in_any_order(solution, reference, size, seed):
    mlp, attention = MLP(seed, size, (2, 3), 3, 2 * size), Attention(seed, size, 2, 3, 3, size, 2)

    for block in (mlp, attention):
        d_x, d_parts = block.want_backward(reference)
        block.by_columns_first()
        saw_x, saw_params = pair(block.backward(solution).results[0], 0, block)
        check.close(saw_x, d_x, n=N, what="d_x on rank 0", given=block.words)
        what = "the gradients on rank 0"
        common.check_dicts(saw_params, d_parts[0], n=N, what=what, given=block.words)


@rule("R18")
@given(block=EITHER)
def test_one_all_reduce_forward_and_one_backward(solution, block):
    allowed = common.one_all_reduce(block.x, block.size)

    forward, backward = block.forward(solution), block.backward(solution)

    common.check_traffic(forward, allowed, what="the forward pass", given=block.words)
    common.check_traffic(backward, allowed, what="the backward pass", given=block.words)


@rule("R8")
@given(size=st.sampled_from([2, 3]), seed=common.SEEDS)
def test_blocks_keep_float32(solution, reference, size, seed):
    blocks = (
        MLP(seed, size, (2, 3), 3, 2 * size, np.float32),
        Attention(seed, size, 2, 3, 3, size, 2, np.float32),
    )

    for block in blocks:
        saw = block.forward(solution).results[0]
        check.close(saw, block.want(reference), n=N, what="y", given=block.words)
        d_x, d_params = block.backward(solution).results[0]
        want, parts = block.want_backward(reference)
        check.close(d_x, want, n=N, what="d_x", given=block.words)
        common.check_dicts(d_params, parts[0], n=N, what="the gradients", given=block.words)


@rule("R7")
@given(size=st.sampled_from([2, 1]), seed=common.SEEDS)
def test_blocks_leave_their_arguments_alone(solution, size, seed):
    mlp = MLP(seed, size, (2, 3), 3, 2 * size)
    attention = Attention(seed, size, 2, 3, 3, size, 2)

    def all_four(comm):
        r, heads = comm.rank, {"n_heads": attention.H}
        args = attention.d_y, attention.x, attention.parts[r]
        results = [
            solution.parallel_mlp(comm, mlp.x, mlp.parts[r]),
            *solution.parallel_mlp_backward(comm, mlp.d_y, mlp.x, mlp.parts[r]),
            solution.parallel_attention(comm, attention.x, attention.parts[r], **heads),
            *solution.parallel_attention_backward(comm, *args, **heads),
            solution.shard_mlp(mlp.params, rank=r, size=size),
            solution.shard_attention(attention.params, **heads, rank=r, size=size),
        ]
        common.add_one(results)

    for block in (mlp, attention):
        words = f"{block.words}, results are added to"
        arrays = {"x": block.x, "d_y": block.d_y, **block.params}
        with check.unchanged(given=words, **arrays, **{"the parts of the ranks": block.parts}):
            common.run(all_four, size=size, given=words)


@rule("R10")
@given(case=st.sampled_from([(4, 3), (2, 4), (6, 4), (1, 2)]))
def test_ranks_that_do_not_divide_the_heads_are_refused(solution, case):
    H, size = case
    block = Attention(0, 1, 1, 2, 3, H, 12)
    words = f"n_heads={H}, {size} ranks, D=12"
    kind = {"names": "n_heads", "given": words}

    def shard():
        solution.shard_attention(block.params, n_heads=H, rank=0, size=size)

    def forward():
        args = block.x, block.params
        common.run(solution.parallel_attention, *args, size=size, n_heads=H, given=words)

    def backward():
        args, call = (block.d_y, block.x, block.params), solution.parallel_attention_backward
        common.run(call, *args, size=size, n_heads=H, given=words)

    check.raises(ValueError, shard, what="shard_attention", **kind)
    check.raises(ValueError, forward, what="parallel_attention", **kind)
    check.raises(ValueError, backward, what="parallel_attention_backward", **kind)


@rule("R10")
@given(case=st.sampled_from([(4, 3), (3, 2), (1, 2)]))
def test_ranks_that_do_not_divide_the_hidden_width_are_refused(solution, case):
    F, size = case
    block = MLP(0, 1, (2,), 3, F)
    kind = {"names": "size", "what": "shard_mlp", "given": f"F={F}, size={size}"}

    def shard():
        solution.shard_mlp(block.params, rank=0, size=size)

    check.raises(ValueError, shard, **kind)


@rule("R19")
def test_blocks_send_little(count, reference):
    size, C, F, H, D, n_rows = 4, 32, 128, 4, 8, 24

    def inputs(rng):
        mlp, attention = common.mlp_params(rng, C, F), common.attention_params(rng, C, H, D)
        x, d_y = (common.normal(rng, 2, n_rows // 2, C) for _ in range(2))
        return mlp, attention, x, d_y

    def run(impl, mlp, attention, x, d_y):
        def both_blocks(comm, mlp, attention, x, d_y):
            y = impl.parallel_attention(comm, x, attention, n_heads=H)
            z = impl.parallel_mlp(comm, y, mlp)
            d_z, _ = impl.parallel_mlp_backward(comm, d_y, y, mlp)
            return z, impl.parallel_attention_backward(comm, d_z, x, attention, n_heads=H)[0]

        mlps = [common.mlp_part(mlp, rank, size) for rank in range(size)]
        attentions = [common.attention_part(attention, H, rank, size) for rank in range(size)]
        args = per_rank(mlps), per_rank(attentions), x, d_y
        ran = Cluster(size).run(both_blocks, *args)
        words = "x (2, 12, 32), F=128, n_heads=4, D=8, 4 ranks"
        y = Cluster(1).run(reference.parallel_attention, x, attention, n_heads=H).results[0]
        check.close(ran.results[0][0], common.mlp(y, mlp), n=N, what="the output", given=words)
        return max(rank.sent_bytes for rank in ran.ranks)

    count(run, inputs=inputs)
