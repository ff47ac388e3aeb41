"""The block-scaled product as one writes it in Triton: tiles in bands, one dot and one promotion a block of 128."""

import triton
import triton.language as tl

# (tokens, rows of W, band, stages, warps). A tile has no more than 128 rows of W, so one scale a block is enough.
FEW = ((16, 128, 1, 4, 4), (16, 64, 1, 5, 4), (16, 32, 1, 6, 4), (64, 128, 1, 4, 4), (64, 64, 1, 5, 4),
       (32, 64, 1, 5, 4))
MANY = ((64, 128, 8, 4, 4), (128, 128, 8, 3, 8), (128, 128, 8, 4, 8), (128, 128, 32, 3, 8), (128, 64, 8, 4, 4),
        (256, 128, 8, 3, 8))


# m and the stride of its scales change from case to case: one compiled kernel for all.
@triton.jit(do_not_specialize=["m", "stride"])
def block_product(x, x_scales, w, w_scales, y, m, n, k, stride,
                  ROWS: tl.constexpr, COLS: tl.constexpr, BAND: tl.constexpr):
    tiles_m = tl.cdiv(m, ROWS)
    tiles_n = tl.cdiv(n, COLS)
    blocks = tl.cdiv(k, 128)
    # A band of tiles of tokens walks along W together, so that W comes from the L2 for all but one of them.
    band = tl.program_id(0) // (BAND * tiles_n)
    inside = tl.program_id(0) % (BAND * tiles_n)
    height = tl.minimum(tiles_m - band * BAND, BAND)
    tile_m = band * BAND + inside % height
    tile_n = inside // height

    rows = tile_m * ROWS + tl.arange(0, ROWS)
    cols = tile_n * COLS + tl.arange(0, COLS)
    depth = tl.arange(0, 128)
    there = rows < m
    x_at = x + rows[:, None] * k + depth[None, :]
    w_at = w + cols[None, :] * k + depth[:, None]
    scale_w = w_scales + (tile_n * COLS // 128) * blocks
    total = tl.zeros((ROWS, COLS), dtype=tl.float32)
    for block in range(0, blocks):
        codes_x = tl.load(x_at, mask=there[:, None], other=0.0)
        codes_w = tl.load(w_at)  # n is a multiple of COLS and k one of 128
        scale = tl.load(x_scales + block * stride + rows, mask=there, other=0.0) * tl.load(scale_w + block)
        total += tl.dot(codes_x, codes_w) * scale[:, None]
        x_at += 128
        w_at += 128
    tl.store(y + rows[:, None] * n + cols[None, :], total.to(tl.bfloat16), mask=there[:, None])


def launch(config, x, x_scales, w, w_scales, y, m):
    rows, cols, band, stages, warps = config
    n, k = w.shape
    if n % cols or k % 128:
        raise ValueError(f"{n} x {k} is not in whole tiles of {cols} x 128")
    grid = (triton.cdiv(m, rows) * (n // cols),)
    block_product[grid](x, x_scales, w, w_scales, y, m, n, k, x_scales.stride(0),
                        ROWS=rows, COLS=cols, BAND=band, num_stages=stages, num_warps=warps)
