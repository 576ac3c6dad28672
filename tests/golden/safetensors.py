"""Reads and writes safetensors files of float32 and int32 tensors; reads int64 ones too."""
import json
import struct

import numpy as np

_TYPES = {"F32": np.dtype("<f4"), "I32": np.dtype("<i4"), "I64": np.dtype("<i8")}


def write(path, tensors):
    """`tensors` maps names to arrays; floats become F32 and integers I32."""
    header, body, offset = {}, [], 0
    for name, values in tensors.items():
        values = np.asarray(values)
        dtype = "I32" if values.dtype.kind == "i" else "F32"
        data = np.ascontiguousarray(values, dtype=_TYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        body.append(data)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + b"".join(body))


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    size, = struct.unpack_from("<Q", data)
    tensors = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + begin:8 + size + end], dtype=_TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors
