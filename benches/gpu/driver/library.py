"""The C interface of libxgraft_gpu.so."""

import ctypes
import json

from device import DeviceError, Fatal


def operand(tensor):
    return [tensor.data_ptr(), tensor.numel() * tensor.element_size()]


class Library:
    """Our kernels on one stream. The tensors of a prepared launch must outlive it."""

    def __init__(self, path, images, stream):
        try:
            self.c = ctypes.CDLL(str(path))
        except OSError as error:
            raise Fatal(f"{path.name} cannot be loaded: {error}") from None
        self.c.xg_error.restype = ctypes.c_char_p
        self.c.xg_open.restype = ctypes.c_void_p
        self.c.xg_open.argtypes = [ctypes.c_uint32, ctypes.c_uint64, ctypes.c_char_p]
        self.c.xg_close.restype = None
        self.c.xg_close.argtypes = [ctypes.c_void_p]
        self.c.xg_candidates.restype = ctypes.c_char_p
        self.c.xg_candidates.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self.c.xg_prepare.restype = ctypes.c_int64
        self.c.xg_prepare.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self.c.xg_launch.restype = ctypes.c_int32
        self.c.xg_launch.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        self.handle = self.c.xg_open(0, stream, str(images).encode())
        if not self.handle:
            raise Fatal(f"{path.name}: {self.error()}")

    def error(self):
        return (self.c.xg_error() or b"no reason given").decode(errors="replace")

    def candidates(self, m, n, k, rank):
        request = json.dumps({"m": m, "n": n, "k": k, "rank": rank})
        answer = self.c.xg_candidates(self.handle, request.encode())
        if answer is None:
            raise DeviceError(self.error())
        return json.loads(answer)

    def prepare(self, kind, operands, **numbers):
        request = {"kind": kind, **numbers, "operands": {name: operand(tensor) for name, tensor in operands.items()}}
        launch = self.c.xg_prepare(self.handle, json.dumps(request).encode())
        if launch < 0:
            raise DeviceError(self.error())
        return launch

    def launch(self, launch):
        if self.c.xg_launch(self.handle, launch) != 0:
            raise DeviceError(self.error())

    def close(self):
        handle, self.handle = self.handle, None
        self.c.xg_close(handle)
