"""GGML's block formats in numpy: bytes to fp32 for every type hone reads, fp32 to bytes for those the tiny models use."""
import numpy as np

F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16 = 0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30
NAMES = {F32: "F32", F16: "F16", Q4_0: "Q4_0", Q4_1: "Q4_1", Q5_0: "Q5_0", Q5_1: "Q5_1", Q8_0: "Q8_0",
         Q4_K: "Q4_K", Q5_K: "Q5_K", Q6_K: "Q6_K", BF16: "BF16"}
# (values, bytes) of one block
BLOCKS = {F32: (1, 4), F16: (1, 2), BF16: (1, 2), Q4_0: (32, 18), Q4_1: (32, 20), Q5_0: (32, 22), Q5_1: (32, 24),
          Q8_0: (32, 34), Q4_K: (256, 144), Q5_K: (256, 176), Q6_K: (256, 210)}


def byte_size(kind, count):
    values, size = BLOCKS[kind]
    if count % values:
        raise ValueError(f"{count} values are no whole number of {NAMES[kind]} blocks")
    return count // values * size


def _half(blocks, offset):
    """The fp16 at byte `offset` of each block, as fp32 [n, 1]."""
    return np.ascontiguousarray(blocks[:, offset:offset + 2]).view(np.float16).astype(np.float32)


def _nibbles(packed):
    """[n, 16] bytes to [n, 32]: the low halves, then the high halves."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _fifth_bits(blocks, offset):
    """[n, 32]: bit j of the little-endian 32-bit word at `offset`, as 0 or 16."""
    return np.unpackbits(blocks[:, offset:offset + 4], axis=1, bitorder="little") << 4


def _scales_and_minima(packed):
    """The eight 6-bit scales and eight 6-bit minima of a K block: [n, 12] bytes to two fp32 [n, 8, 1]."""
    first, second, third = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([first & 63, (third & 15) | (first >> 6 << 4)], axis=1)
    minima = np.concatenate([second & 63, (third >> 4) | (second >> 6 << 4)], axis=1)
    return scales.astype(np.float32)[:, :, None], minima.astype(np.float32)[:, :, None]


def _dequantize_4_or_5_k(blocks, high_bits):
    scales, minima = _scales_and_minima(blocks[:, 4:16])
    packed = blocks[:, -128:].reshape(-1, 4, 1, 32)
    q = np.concatenate([packed & 15, packed >> 4], axis=2).reshape(-1, 8, 32)
    if high_bits:
        bits = np.unpackbits(blocks[:, 16:48, None], axis=2, bitorder="little")  # [n, 32, 8]
        q = q | (bits.transpose(0, 2, 1) << 4)
    d, dmin = _half(blocks, 0)[:, :, None], _half(blocks, 2)[:, :, None]
    return d * scales * q.astype(np.float32) - dmin * minima


def _dequantize_6_k(blocks):
    low = blocks[:, 0:128].reshape(-1, 2, 1, 64)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    high = np.concatenate([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    q = (low | (high << 4)).astype(np.float32) - 32
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
    d = _half(blocks, 208)[:, :, None]
    return d * scales[:, :, None] * q.reshape(-1, 16, 16)


def dequantize(kind, data, count):
    """`count` fp32 values from the bytes of a tensor."""
    raw = np.frombuffer(data, dtype=np.uint8, count=byte_size(kind, count))
    if kind == F32:
        return raw.view(np.float32).copy()
    if kind == F16:
        return raw.view(np.float16).astype(np.float32)
    if kind == BF16:
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    blocks = raw.reshape(-1, BLOCKS[kind][1])
    if kind == Q8_0:
        values = _half(blocks, 0) * np.ascontiguousarray(blocks[:, 2:]).view(np.int8).astype(np.float32)
    elif kind == Q4_0:
        values = _half(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)
    elif kind == Q4_1:
        values = _half(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _half(blocks, 2)
    elif kind == Q5_0:
        values = _half(blocks, 0) * ((_nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2)).astype(np.float32) - 16)
    elif kind == Q5_1:
        q = (_nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)).astype(np.float32)
        values = _half(blocks, 0) * q + _half(blocks, 2)
    elif kind == Q6_K:
        values = _dequantize_6_k(blocks)
    else:
        values = _dequantize_4_or_5_k(blocks, kind == Q5_K)
    return values.reshape(-1)


def _pack(q, bits, *heads):
    """Blocks of [n, 32] values of 4 or 5 bits; the fifth bits follow the fp16 heads."""
    parts = [head.view(np.uint8).reshape(len(q), 2) for head in heads]
    if bits == 5:
        parts.append(np.packbits(q >> 4 & 1, axis=1, bitorder="little"))
    parts.append((q[:, :16] & 15) | ((q[:, 16:] & 15) << 4))
    return np.concatenate(parts, axis=1).tobytes()


def quantize(kind, values):
    """The bytes of fp32 `values` [..., cols] as F32, F16, BF16 (truncated), Q4_1, Q5_0 or Q8_0, rounded to nearest."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if kind == F32:
        return values.tobytes()
    if kind == F16:
        return values.astype(np.float16).tobytes()
    if kind == BF16:
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    blocks = values.reshape(-1, 32)
    if kind == Q8_0:
        d = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype(np.float16)
        q = np.clip(np.rint(blocks / d.astype(np.float32)), -127, 127).astype(np.int8)
        return np.concatenate([d.view(np.uint8), q.view(np.uint8)], axis=1).tobytes()
    if kind == Q4_1:
        low = blocks.min(axis=1, keepdims=True).astype(np.float16)
        d = ((blocks.max(axis=1, keepdims=True) - low) / 15).astype(np.float16)
        q = np.clip(np.rint((blocks - low) / d.astype(np.float32)), 0, 15).astype(np.uint8)
        return _pack(q, 4, d, low)
    if kind == Q5_0:
        d = (np.abs(blocks).max(axis=1, keepdims=True) / 15).astype(np.float16)
        q = np.clip(np.rint(blocks / d.astype(np.float32)) + 16, 0, 31).astype(np.uint8)
        return _pack(q, 5, d)
    raise ValueError(f"no writer for {NAMES[kind]}")
