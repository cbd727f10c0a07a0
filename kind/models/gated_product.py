"""The gated product of a factorized matrix, at the cost of the components that are used:

    y = U_G (s_G * V_G^T x) + U_c (s_c * V_c^T x) + b

Two forms, equal to rounding.  `chunked_product` is for CPUs, where a product with the three or so rows of one class is
slow: the samples lie sorted by class, and for each class its tailors are written behind the learngenes, so that each
direction of forward and backward is one product a class.  `gathered_product` is for GPUs and for `torch.compile`: its
shapes do not depend on the labels and nothing waits for the device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kind.models.factorization import LayerRanks
from kind.models.gate import ClassGate

# Multiply-accumulates that take as long as what a further chunk costs besides its products (about 40 us on one core).
CHUNK_MACS = 1.7e6


class Chunk(NamedTuple):
    """Neighbouring samples whose products are done together.

    samples: start and stop.  rows: slices of the tailors that some of them use, among those that any sample of the
    batch uses; count: how many those are.  mask: which of the `count` each sample uses, [n, 1, count]; None: all.
    """

    start: int
    stop: int
    rows: tuple[slice, ...]
    count: int
    mask: Tensor | None


class Chunks(NamedTuple):
    """chunks: of all samples.  present: rows of the tailors that any sample uses, rising, [1, k]."""

    chunks: tuple[Chunk, ...]
    present: Tensor
    most: int  # tailors in one chunk


def chunks_of(gate: ClassGate, ranks: LayerRanks, size: int, tokens: int) -> Chunks:
    """How the open gate's samples are put together for a matrix; computed once for all matrices that are alike.

    size: in + out of the matrix.  Classes that own few rows for few tokens share a chunk, with a mask: what this adds
    to the products is less than what a chunk costs by itself.
    """
    key = (ranks, size, tokens)
    if key not in gate.plans:
        gate.plans[key] = _plan(gate, ranks, size, tokens)
    return gate.plans[key]


def _plan(gate: ClassGate, ranks: LayerRanks, size: int, tokens: int) -> Chunks:
    runs = gate.runs()
    owners = sorted({owner for label, _, _ in runs for owner in gate.owners_of(label)})
    where = {}  # owner -> its slice of the present rows
    for owner in owners:
        start = sum(own.stop - own.start for own in where.values())
        where[owner] = slice(start, start + ranks.tailor_counts[owner])

    groups: list[list[tuple[int, int, int]]] = []
    used: set[int] = set()
    for run in runs:
        own = set(gate.owners_of(run[0]))
        if groups:
            before = sum(stop - start for _, start, stop in groups[-1])
            more = sum(ranks.tailor_counts[owner] for owner in own - used)
            idle = sum(ranks.tailor_counts[owner] for owner in used - own)
            extra = 3 * size * tokens * (before * more + (run[2] - run[1]) * idle)
            if extra <= CHUNK_MACS:
                groups[-1].append(run)
                used |= own
                continue
        groups.append([run])
        used = own

    chunks = []
    for group in groups:
        own = sorted({owner for label, _, _ in group for owner in gate.owners_of(label)})
        sets = [set(gate.owners_of(label)) for label, _, _ in group]
        mask = None
        if any(one != sets[0] for one in sets):
            columns = [owner for owner in own for _ in range(ranks.tailor_counts[owner])]
            lines = [[float(owner in one) for owner in columns] for one in sets]
            lengths = torch.tensor([stop - start for _, start, stop in group])
            mask = torch.tensor(lines).repeat_interleave(lengths, dim=0)[:, None]
        rows = _joined([where[owner] for owner in own])
        count = sum(part.stop - part.start for part in rows)
        chunks.append(Chunk(group[0][1], group[-1][2], rows, count, mask))
    flat = [ranks.rows_of_owner(owner) for owner in owners]
    present = [row for part in flat for row in range(part.start, part.stop)]
    most = max((chunk.count for chunk in chunks), default=0)
    return Chunks(tuple(chunks), torch.tensor(present, dtype=torch.long)[None], most)


def _joined(parts: list[slice]) -> tuple[slice, ...]:
    """The same rows in as few slices as it takes."""
    joined: list[slice] = []
    for part in parts:
        if joined and joined[-1].stop == part.start:
            part = slice(joined.pop().start, part.stop)
        if part.stop > part.start:
            joined.append(part)
    return tuple(joined)


def chunked_product(layer: Any, inputs: Tensor) -> Tensor:
    """[B, ..., in] -> [B, ..., out], for a `FactorizedLinear` on a CPU."""
    gate = layer.gate
    rows = inputs.flatten(0, -2)
    tokens = len(rows) // max(1, len(inputs))
    plan = chunks_of(gate, layer.ranks, layer.in_features + layer.out_features, tokens)
    parameters = (
        layer.learngene_u, layer.learngene_s, layer.learngene_v, layer.tailor_u, layer.tailor_s, layer.tailor_v,
    )  # fmt: skip
    output = _ChunkedProduct.apply(rows, *parameters, layer.bias, plan, tokens, gate.sparse_gradients, gate.recompute)
    return output.unflatten(0, inputs.shape[:-1])


class _ChunkedProduct(torch.autograd.Function):
    """With the gains folded into V, no pass over [B N, G + T] is left but the products themselves:

    H = X (s V)^T, Y = H U + b;   dH = dY U^T, dX = dH (s V), dU = H^T dY, dV = s (dH^T X), ds = rows of (dH^T X) * V.

    Kept for the backward pass: X, and H [B N, G + T] unless it is recomputed.
    """

    @staticmethod
    def forward(ctx, x, gu, gs, gv, tu, ts, tv, bias, plan, tokens, sparse, recompute):
        dtype = _product_type(x)
        x, bias = x.to(dtype), bias.to(dtype)
        weights = _Workspace(gu, gs, gv, tu, ts, tv, plan, dtype)
        y, hidden = x.new_empty(len(x), gu.shape[1]), []
        for chunk in plan.chunks:
            rows = slice(chunk.start * tokens, chunk.stop * tokens)
            v, u = weights.of(chunk)
            h = _hidden(x[rows], v, chunk, tokens)
            torch.addmm(bias, h, u, out=y[rows])
            hidden.append(h)
        ctx.save_for_backward(x, gu, gs, gv, tu, ts, tv, *(() if recompute else hidden))
        ctx.plan, ctx.tokens, ctx.sparse, ctx.bias_type = plan, tokens, sparse, bias.dtype
        return y

    @staticmethod
    def backward(ctx, dy):
        x, gu, gs, gv, tu, ts, tv, *hidden = ctx.saved_tensors
        plan, tokens, shared = ctx.plan, ctx.tokens, len(gs)
        need_x, *need, need_bias = ctx.needs_input_grad[:8]
        need_learngenes, need_tailors = any(need[:3]), any(need[3:])
        # only rows that some gradient needs: the learngenes are frozen when a task is learnt
        first = 0 if need_learngenes else shared
        dy = dy.to(x.dtype)
        weights = _Workspace(gu, gs, gv, tu, ts, tv, plan, x.dtype)
        dx = torch.empty_like(x) if need_x else None
        du, dv = (gs.new_zeros(shared + plan.most - first, rows.shape[1]) for rows in (gu, gv))
        num_present = plan.present.shape[1]
        dtu, dtv = (gs.new_zeros(num_present if need_tailors else 0, rows.shape[1]) for rows in (tu, tv))
        for index, chunk in enumerate(plan.chunks):
            rows = slice(chunk.start * tokens, chunk.stop * tokens)
            v, u = weights.of(chunk)
            d, inputs = dy[rows], x[rows]
            h = hidden[index] if hidden else _hidden(inputs, v, chunk, tokens)
            dh = torch.mm(d, u.T, out=d.new_empty(len(d), len(u)))
            _close(dh, chunk, tokens)
            if need_x:
                torch.mm(dh, v, out=dx[rows])
            if not need_learngenes and not (need_tailors and chunk.count):
                continue
            stop = shared + chunk.count - first
            if index > 0:  # the learngenes' rows add up over chunks, the tailors' begin anew
                du[shared - first :].zero_()
                dv[shared - first :].zero_()
            _add_product(du[:stop], h[:, first:], d)
            _add_product(dv[:stop], dh[:, first:], inputs)
            if need_tailors:
                start = shared - first
                for part in chunk.rows:
                    end = start + part.stop - part.start
                    dtu[part] += du[start:end]
                    dtv[part] += dv[start:end]
                    start = end
        grads = [None] * 6
        if need_learngenes:
            dgu, dgv = du[:shared], dv[:shared]
            grads[:3] = dgu, (dgv * gv).sum(1), dgv * gs[:, None]
        if need_tailors:
            grads[3:] = _tailor_gradients(dtu, dtv, ts, tv, plan.present, ctx.sparse)
        dbias = dy.sum(0).to(ctx.bias_type) if need_bias else None
        return (dx, *(grad if wanted else None for grad, wanted in zip(grads, need, strict=True)), dbias, *[None] * 4)


class _Workspace:
    """[s V; ...] and [U; ...] of the learngenes with room behind them, into which a chunk's tailors are written.

    The tailors that any sample uses are gathered once: taken class by class, thousands of small copies a step took
    longer than the products.
    """

    def __init__(self, gu, gs, gv, tu, ts, tv, plan: Chunks, dtype: torch.dtype):
        self.shared, rows = len(gs), plan.present[0].to(tu.device)
        self.tailor_u, self.tailor_v = tu[rows], tv[rows] * ts[rows, None]
        self.v = torch.empty(self.shared + plan.most, gv.shape[1], dtype=dtype, device=gv.device)
        self.u = torch.empty(self.shared + plan.most, gu.shape[1], dtype=dtype, device=gu.device)
        torch.mul(gv, gs[:, None], out=self.v[: self.shared])
        self.u[: self.shared] = gu

    def of(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """s V [G + k, in] and U [G + k, out] of the chunk; valid until the next one is asked for."""
        start = self.shared
        for rows in chunk.rows:
            stop = start + rows.stop - rows.start
            self.v[start:stop] = self.tailor_v[rows]
            self.u[start:stop] = self.tailor_u[rows]
            start = stop
        return self.v[:start], self.u[:start]


def _hidden(x: Tensor, v: Tensor, chunk: Chunk, tokens: int) -> Tensor:
    h = torch.mm(x, v.T, out=x.new_empty(len(x), len(v)))
    _close(h, chunk, tokens)
    return h


def _close(h: Tensor, chunk: Chunk, tokens: int) -> None:
    """Zero where a sample does not use a tailor of its chunk, in place.  [n N, G + k]."""
    if chunk.mask is not None:
        h.unflatten(0, (-1, tokens))[:, :, h.shape[1] - chunk.count :] *= chunk.mask.to(h.dtype)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a^T b, summed in the total's precision."""
    if a.dtype == total.dtype:
        total.addmm_(a.T, b)
    else:
        total += torch.mm(a.T, b, out=a.new_empty(a.shape[1], b.shape[1]))


def _tailor_gradients(du: Tensor, dv: Tensor, s: Tensor, v: Tensor, present: Tensor, sparse: bool) -> list[Tensor]:
    """Gradients of tailor_u, tailor_s, tailor_v from those of U and s V in the present rows [k, ...]."""
    rows = present[0]
    ds = (dv * v[rows]).sum(1)
    values = [du, ds, dv.mul_(s[rows, None])]
    sizes = [(len(s), du.shape[1]), (len(s),), (len(s), dv.shape[1])]
    if sparse and len(s):  # of no tailors at all there is nothing sparse
        options = {"is_coalesced": True, "check_invariants": False}
        return [torch.sparse_coo_tensor(present, one, size, **options) for one, size in zip(values, sizes, strict=True)]
    return [one.new_zeros(size).index_copy_(0, rows, one) for one, size in zip(values, sizes, strict=True)]


def _product_type(x: Tensor) -> torch.dtype:
    """What `F.linear` would compute in: autocast's type, which leaves float64 alone."""
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return x.dtype


def gathered_product(layer: Any, inputs: Tensor) -> Tensor:
    """[B, ..., in] -> [B, ..., out]: one product with all learngenes, and batched ones with each sample's own tailors.

    Kept for the backward pass: inputs and hidden [B N, G] and [B N, T].  It has not been measured on a GPU yet.
    """
    gate = layer.gate
    v = layer.learngene_v * layer.learngene_s[:, None]
    shared = F.linear(F.linear(inputs, v), layer.learngene_u.T, layer.bias)
    rows, used = gate.tailor_rows(layer.ranks, inputs.device)
    if not rows.numel() or not len(layer.tailor_s):
        return shared
    labels = gate.labels.to(inputs.device)
    rows, used = rows[labels], used[labels].to(layer.tailor_s.dtype)
    own_u, own_v = (
        F.embedding(rows, weight, sparse=gate.sparse_gradients) for weight in (layer.tailor_u, layer.tailor_v)
    )
    gains = F.embedding(rows, layer.tailor_s[:, None], sparse=False)[..., 0] * used
    x = inputs.flatten(1, -2) if inputs.dim() > 2 else inputs[:, None]
    hidden = torch.bmm(x, (own_v * gains[:, :, None]).mT.to(x.dtype))
    return shared + torch.bmm(hidden, own_u.to(hidden.dtype)).reshape(shared.shape)
