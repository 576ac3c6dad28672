"""Arrays as numpy writes them, for tests/data/data_test.cpp: every element type, byte order, memory order and container."""
import gzip
import struct

import numpy as np

import generator

ROWS, COLS = 5, 3


def values():
    """What every matrix of floats holds, up to its own precision: [ROWS, COLS]."""
    return generator.uniform(900, (ROWS, COLS), 4.0)


def write_arrays(folder):
    folder.mkdir(parents=True, exist_ok=True)
    x = values()
    for name, dtype in (("half", "<f2"), ("float", "<f4"), ("double", "<f8"), ("big_endian", ">f4"), ("big_double", ">f8")):
        np.save(folder / f"{name}.npy", x.astype(dtype))
    np.save(folder / "fortran.npy", np.asfortranarray(x))
    wide = np.zeros((2 * ROWS, 3 * COLS), dtype=np.float32)
    wide[::2, ::3] = x
    np.save(folder / "strided.npy", wide[::2, ::3])
    np.save(folder / "transposed.npy", np.ascontiguousarray(x.T).T)
    np.save(folder / "column.npy", x[:, 0])
    with open(folder / "version2.npy", "wb") as file:
        np.lib.format.write_array(file, x, version=(2, 0))
    np.save(folder / "halves.npy", np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)[::4])

    for dtype in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"):
        np.save(folder / f"integers_{dtype.replace('>', 'big_')}.npy", np.arange(ROWS).astype(dtype))
    np.save(folder / "booleans.npy", np.arange(ROWS) % 2 == 1)
    text = np.array(["zwei", "eins", "drei", "straße", "日本 🙂"])
    np.save(folder / "text.npy", text)
    np.save(folder / "bytes.npy", np.array([b"b", b"aaa", b"cc", b"b", b"aaa"]))

    np.save(folder / "object.npy", np.array([[1.0], [1.0, 2.0]], dtype=object), allow_pickle=True)
    np.save(folder / "complex.npy", x.astype(np.complex64))
    np.save(folder / "structured.npy", np.zeros(ROWS, dtype=[("x", "<f4"), ("y", "<i4")]))
    np.save(folder / "cube.npy", x.reshape(ROWS, COLS, 1))
    np.save(folder / "scalar.npy", np.float32(1))
    np.save(folder / "empty.npy", x[:0])
    np.save(folder / "no_columns.npy", x[:, :0])

    y = np.array([3, -1, 3, 10, -1])
    np.savez(folder / "stored.npz", X=x, y=y)
    np.savez_compressed(folder / "deflated.npz", X=np.asfortranarray(x.astype(np.float64)), y=text)
    np.savez(folder / "other_names.npz", features=x, labels=y)

    pixels = (generator.bits(901, 4 * 2 * 3) >> np.uint64(56)).astype(np.uint8).reshape(4, 2, 3)
    images = struct.pack(">HBB3I", 0, 8, 3, *pixels.shape) + pixels.tobytes()
    labels = struct.pack(">HBBI", 0, 8, 1, 4) + bytes([7, 2, 1, 7])
    for name, data in (("images.idx3", images), ("labels.idx1", labels)):
        (folder / name).write_bytes(data)
        (folder / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
