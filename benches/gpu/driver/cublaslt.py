"""cuBLASLt by ctypes: the block-scaled FP8 product with every algorithm that its heuristics name."""

import ctypes
import functools
from ctypes import POINTER, byref, c_float, c_int, c_int64, c_size_t, c_uint64, c_void_p

# From cublasLt.h and library_types.h of CUDA 13.0.
COMPUTE_32F, R_32F, R_16BF, R_8F_E4M3 = 68, 0, 14, 28
OP_N, OP_T = 0, 1
DESC_TRANSA, DESC_TRANSB = 3, 4
DESC_A_SCALE_POINTER, DESC_B_SCALE_POINTER = 17, 18
DESC_A_SCALE_MODE, DESC_B_SCALE_MODE = 31, 32
SCALE_VEC128_32F, SCALE_BLK128X128_32F = 4, 5
PREF_MAX_WORKSPACE_BYTES = 1
MOST_ALGORITHMS = 16
WORKSPACE = 32 << 20


class Algorithm(ctypes.Structure):
    _fields_ = [("data", c_uint64 * 8)]


class Heuristic(ctypes.Structure):
    _fields_ = [
        ("algorithm", Algorithm),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    ]


def path():
    """The library that torch has loaded."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "libcublasLt.so" in line:
                return line.split(maxsplit=5)[5].strip()
    return "libcublasLt.so.13"


class CublasLt:
    def __init__(self):
        self.c = ctypes.CDLL(path())
        self.c.cublasLtGetVersion.restype = c_size_t
        pointers = {"cublasLtMatmul": [c_void_p] * 14 + [c_size_t, c_void_p]}
        pointers["cublasLtMatmulAlgoGetHeuristic"] = [c_void_p] * 7 + [c_int, c_void_p, POINTER(c_int)]
        pointers["cublasLtMatrixLayoutCreate"] = [c_void_p, c_int, c_uint64, c_uint64, c_int64]
        pointers["cublasLtMatmulDescCreate"] = [c_void_p, c_int, c_int]
        pointers["cublasLtMatmulDescSetAttribute"] = [c_void_p, c_int, c_void_p, c_size_t]
        pointers["cublasLtMatmulPreferenceSetAttribute"] = [c_void_p, c_int, c_void_p, c_size_t]
        for name, types in pointers.items():
            getattr(self.c, name).argtypes = types

        self.handle = self.created("cublasLtCreate")

    def version(self):
        return int(self.c.cublasLtGetVersion())

    def call(self, name, *arguments):
        status = getattr(self.c, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}: status {status}")

    def created(self, name, *arguments):
        value = c_void_p()
        self.call(name, byref(value), *arguments)
        return value


@functools.cache
def library():
    return CublasLt()


class BlockProduct:
    """Y [m, n] = X W^T as cuBLASLt has it, by columns: D [n, m] = op_T(W [k, n]) X [k, m]. m is a multiple of 4."""

    def __init__(self, lt, m, n, k, workspace):
        self.lt, self.workspace = lt, workspace
        self.desc = lt.created("cublasLtMatmulDescCreate", COMPUTE_32F, R_32F)
        for attribute, value in (
            (DESC_TRANSA, OP_T), (DESC_TRANSB, OP_N),
            (DESC_A_SCALE_MODE, SCALE_BLK128X128_32F), (DESC_B_SCALE_MODE, SCALE_VEC128_32F),
        ):
            self.set(attribute, c_int(value))
        self.w = lt.created("cublasLtMatrixLayoutCreate", R_8F_E4M3, k, n, k)
        self.x = lt.created("cublasLtMatrixLayoutCreate", R_8F_E4M3, k, m, k)
        self.y = lt.created("cublasLtMatrixLayoutCreate", R_16BF, n, m, n)
        self.preference = lt.created("cublasLtMatmulPreferenceCreate")
        size = c_uint64(WORKSPACE)
        lt.call("cublasLtMatmulPreferenceSetAttribute", self.preference, PREF_MAX_WORKSPACE_BYTES, byref(size), 8)

    def set(self, attribute, value):
        size = ctypes.sizeof(value)
        self.lt.call("cublasLtMatmulDescSetAttribute", self.desc, attribute, byref(value), size)

    def scales(self, w_scales, x_scales):
        self.set(DESC_A_SCALE_POINTER, c_void_p(w_scales))
        self.set(DESC_B_SCALE_POINTER, c_void_p(x_scales))

    def algorithms(self):
        """With the pointers of the scales set already: the heuristics look at them."""
        found, count = (Heuristic * MOST_ALGORITHMS)(), c_int()
        self.lt.call("cublasLtMatmulAlgoGetHeuristic", self.lt.handle, self.desc, self.w, self.x, self.y, self.y,
                     self.preference, MOST_ALGORITHMS, found, byref(count))
        return [found[i] for i in range(count.value) if found[i].state == 0]

    def launch(self, heuristic, w, w_scales, x, x_scales, y, stream):
        self.scales(w_scales, x_scales)
        one, zero = c_float(1), c_float(0)
        self.lt.call("cublasLtMatmul", self.lt.handle, self.desc, byref(one), w, self.w, x, self.x, byref(zero),
                     y, self.y, y, self.y, byref(heuristic.algorithm), self.workspace, WORKSPACE, stream)
