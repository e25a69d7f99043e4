"""Takes memory of the first NVIDIA device by the driver alone, and holds it until its standard
input ends: ``python hog.py BYTES_TO_LEAVE``. Says how many bytes it took."""

from __future__ import annotations

import ctypes
import sys


def main(leave: int) -> int:
    """Take all but that much; 1 where the driver does not let it."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as e:
        print(f"no driver: {e}", flush=True)
        return 1
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    at = ctypes.c_uint64()
    for done in (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device),
        cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)),
    ):
        if done:
            print(f"CUDA error {done}", flush=True)
            return 1
    size = max(0, free.value - leave)
    error = cuda.cuMemAlloc_v2(ctypes.byref(at), ctypes.c_size_t(size))
    print(f"CUDA error {error}" if error else size, flush=True)
    sys.stdin.read()
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
