"""Reads and writes GGUF v3 files: little-endian, metadata with arrays, tensors aligned to 32 bytes."""
import mmap
import struct

import numpy as np

import quantization

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", UINT32: "I", INT32: "i", FLOAT32: "f", BOOL: "?", 10: "Q", 11: "q", 12: "d"}
_ALIGNMENT = 32


class _Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def scalar(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self):
        size = self.scalar("Q")
        self.at += size
        return self.data[self.at - size:self.at].decode("utf-8")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.scalar(_SCALARS[kind])
        kind, count = self.scalar("I"), self.scalar("Q")
        return [self.value(kind) for _ in range(count)]


class Reader:
    """`metadata` maps keys to Python values; `matrix(name)` is a tensor as fp32, outermost dimension first."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        cursor = _Cursor(self._data)
        if self._data[:4] != b"GGUF":
            raise ValueError(f"{path} is no GGUF file")
        cursor.at = 4
        version, tensors, keys = cursor.scalar("I"), cursor.scalar("Q"), cursor.scalar("Q")
        if version not in (2, 3):
            raise ValueError(f"{path} is GGUF version {version}")
        self.metadata = {}
        for _ in range(keys):
            key = cursor.string()
            self.metadata[key] = cursor.value(cursor.scalar("I"))
        self._tensors = {}
        for _ in range(tensors):
            name = cursor.string()
            shape = [cursor.scalar("Q") for _ in range(cursor.scalar("I"))][::-1]
            self._tensors[name] = (shape, cursor.scalar("I"), cursor.scalar("Q"))
        alignment = self.metadata.get("general.alignment", _ALIGNMENT)
        self._start = -(-cursor.at // alignment) * alignment

    def names(self):
        return list(self._tensors)

    def kind(self, name):
        return self._tensors[name][1]

    def matrix(self, name):
        shape, kind, offset = self._tensors[name]
        count = int(np.prod(shape))
        begin = self._start + offset
        data = self._data[begin:begin + quantization.byte_size(kind, count)]
        return quantization.dequantize(kind, data, count).reshape(shape)


def _string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _kind_of(value):
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return UINT32
    if isinstance(value, float):
        return FLOAT32
    if isinstance(value, str):
        return STRING
    return ARRAY


def _value(value, kind):
    if kind == STRING:
        return _string(value)
    if kind != ARRAY:
        return struct.pack("<" + _SCALARS[kind], value)
    # llama.cpp writes integer arrays as INT32
    element = INT32 if isinstance(value[0], int) else _kind_of(value[0])
    return struct.pack("<IQ", element, len(value)) + b"".join(_value(v, element) for v in value)


def write(path, metadata, tensors):
    """`tensors` is a list of (name, shape with the outermost dimension first, type, bytes)."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        kind = _kind_of(value)
        head += [_string(key), struct.pack("<I", kind), _value(value, kind)]
    body, offset = [], 0
    for name, shape, kind, data in tensors:
        head += [_string(name), struct.pack("<I", len(shape)), struct.pack(f"<{len(shape)}Q", *reversed(shape)),
                 struct.pack("<IQ", kind, offset)]
        padded = data + bytes(-len(data) % _ALIGNMENT)
        body.append(padded)
        offset += len(padded)
    head = b"".join(head)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % _ALIGNMENT) + b"".join(body))
