"""Operands on the device, and what their product should be in f64."""

import torch

E4M3 = torch.float8_e4m3fn
BLOCK = 128
SAMPLED_ROWS = 32


def blocks_varied(values, generator):
    """Random normal numbers of which each block of 128 columns has a size of its own, so that a wrong scale shows."""
    rows, cols = values.shape
    sizes = torch.randn(rows, cols // BLOCK, 1, generator=generator, device=values.device).mul_(0.5).exp_()
    return (values.view(rows, -1, BLOCK) * sizes).view(rows, cols)


def quantized_tokens(x, stride):
    """Codes [m, k] and scales [k / 128, stride] of x in bf16."""
    m, k = x.shape
    blocks = x.float().view(m, k // BLOCK, BLOCK)
    scale = blocks.abs().amax(2) / 448
    scale[scale == 0] = 1
    scales = torch.ones(k // BLOCK, stride, device=x.device)
    scales[:, :m] = scale.t()
    return (blocks / scale[:, :, None]).to(E4M3).view(m, k), scales


def quantized_weight(w):
    """Codes [n, k] and scales [n / 128, k / 128] of w in f32."""
    n, k = w.shape
    blocks = w.view(n // BLOCK, BLOCK, k // BLOCK, BLOCK)
    scale = blocks.abs().amax((1, 3)) / 448
    scale[scale == 0] = 1
    return (blocks / scale[:, None, :, None]).to(E4M3).view(n, k), scale


def tokens64(codes, scales):
    """[m, k] in f64 of codes under scales [k / 128, m]."""
    m, k = codes.shape
    return (codes.float().double().view(m, -1, BLOCK) * scales.t().double()[:, :, None]).view(m, k)


def weight64(codes, scales):
    n, k = codes.shape
    blocks = codes.float().double().view(n // BLOCK, BLOCK, k // BLOCK, BLOCK)
    return (blocks * scales.double()[:, None, :, None]).view(n, k)


def rel_rms(found, reference):
    return ((found.double() - reference).norm() / reference.norm()).item()


class Operands:
    """Of one linear and m tokens. All copies of W have the same numbers; y and codes have whole fours of tokens."""

    ROWS = 1024

    def __init__(self, n, k, m, copies, seed, device="cuda"):
        self.n, self.k, self.m, self.device = n, k, m, device
        self.padded = -(-m // 4) * 4
        self.generator = torch.Generator(device).manual_seed(seed)
        self.x16 = blocks_varied(self.normal(m, k), self.generator).bfloat16()
        self.codes = torch.zeros(self.padded, k, dtype=E4M3, device=device)
        self.codes[:m], self.x_scales = quantized_tokens(self.x16, self.padded)
        w = torch.empty(n, k, dtype=E4M3, device=device)
        w_scales = torch.empty(n // BLOCK, k // BLOCK, device=device)
        for at in range(0, n, self.ROWS):
            part = blocks_varied(self.normal(min(self.ROWS, n - at), k), self.generator) / k**0.5
            w[at:at + self.ROWS], w_scales[at // BLOCK:(at + self.ROWS) // BLOCK] = quantized_weight(part)
        self.w = [w] + [w.clone() for _ in range(copies - 1)]
        self.w_scales = [w_scales] + [w_scales.clone() for _ in range(copies - 1)]
        # One scale for all, as per-tensor FP8 has it: other numbers than those of the blocks, from the same codes.
        self.x_scale = torch.full((1,), 0.01, device=device)
        self.w_scale = torch.full((1,), 0.001, device=device)
        self.ys = [torch.empty(self.padded, n, dtype=torch.bfloat16, device=device) for _ in range(2)]
        self.y = self.ys[0]
        chosen = torch.randint(0, m, (SAMPLED_ROWS,), generator=torch.Generator().manual_seed(seed)).tolist()
        self.rows = torch.tensor(sorted({0, m - 1, *chosen}), device=device)
        self.most_w16 = copies
        self._w16, self._adapters, self._shrinks, self._references = None, {}, {}, {}

    def y_of(self, i):
        """What ours with the i-th copy of W writes, the last one y: by turns two, so that a launch does not hide what
        it did to the result of the one before it."""
        return self.ys[(len(self.w) - 1 - i) % 2]

    def results(self):
        """The bits of both, of the last launch and the one before it."""
        return [y[:self.m].view(torch.int16) for y in self.ys]

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, device=self.device)

    @property
    def w16(self):
        """W in bf16, made when it is first asked for."""
        if self._w16 is None:
            w16 = torch.empty(self.n, self.k, dtype=torch.bfloat16, device=self.device)
            for at, part in self.weight_parts(lambda codes, scales: weight64(codes, scales).bfloat16()):
                w16[at:at + self.ROWS] = part
            self._w16 = [w16] + [w16.clone() for _ in range(self.most_w16 - 1)]
        return self._w16

    def weight_parts(self, of):
        for at in range(0, self.n, self.ROWS):
            scales = self.w_scales[0][at // BLOCK:(at + self.ROWS) // BLOCK]
            yield at, of(self.w[0][at:at + self.ROWS], scales)

    def adapter(self, rank):
        """T [m, rank] and copies of B [n, rank], so large that they add about half of what Y has."""
        if rank not in self._adapters:
            t = self.normal(self.m, rank).bfloat16()
            b = (self.normal(self.n, rank) * (self.size() / 2 / rank**0.5)).bfloat16()
            self._adapters[rank] = t, [b] + [b.clone() for _ in self.w[1:]]
        return self._adapters[rank]

    def shrink(self, rank):
        """A [rank, k], so large that X·Aᵀ has about the size of the T of `adapter`."""
        if rank not in self._shrinks:
            size = self.x16.float().pow(2).mean().sqrt().item() * self.k**0.5
            self._shrinks[rank] = (self.normal(rank, self.k) / size).bfloat16()
        return self._shrinks[rank]

    def size(self):
        """The rms of Y."""
        return self.reference("block").pow(2).mean().sqrt().item()

    def sampled_codes(self):
        return self.codes.view(torch.uint8)[self.rows].view(E4M3)  # not every torch indexes FP8

    def reference(self, kind, rank=0):
        """The sampled rows of Y in f64, of the very numbers that a kernel gets."""
        if (kind, rank) not in self._references:
            self._references[kind, rank] = self._reference(kind, rank)
        return self._references[kind, rank]

    def _reference(self, kind, rank):
        if rank:
            t, b = self.adapter(rank)
            t = t[self.rows].double()
            if kind == "shrink":
                t = (self.x16[self.rows].double() @ self.shrink(rank).double().t()).bfloat16().double()
            return self.reference("block") + t @ b[0].double().t()
        if kind in ("bf16", "w8a16"):
            x = self.x16[self.rows].double()
        elif kind == "tensor":
            x = self.sampled_codes().float().double() * self.x_scale.double()
        else:
            x = tokens64(self.sampled_codes(), self.x_scales[:, self.rows])
        if kind == "bf16":
            parts = ((at, self.w16[0][at:at + self.ROWS].double()) for at in range(0, self.n, self.ROWS))
        elif kind == "tensor":
            parts = self.weight_parts(lambda codes, _: codes.float().double() * self.w_scale.double())
        else:
            parts = self.weight_parts(weight64)
        return torch.cat([x @ part.t() for _, part in parts], 1)

    def compare(self, kind, rank):
        """Of what y holds. Not a number if an element was not written."""
        y = self.y[:self.m]
        if not bool(torch.isfinite(y).all()):
            return float("nan")
        return rel_rms(y[self.rows], self.reference(kind, rank))
