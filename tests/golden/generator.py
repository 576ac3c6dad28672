"""Numbers that Python and C++ make alike, to the last bit: SplitMix64 (Steele, Lea & Flood 2014) of a stream and an index.

Value i of a stream is scale · (u − 0.5), with u the upper 24 bits of mix(stream · 2³² + i) as a fraction, in fp32.
"""
import numpy as np


def bits(stream, count):
    z = np.uint64(stream) * np.uint64(1 << 32) + np.arange(count, dtype=np.uint64)
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(stream, shape, scale):
    fraction = (bits(stream, int(np.prod(shape))) >> np.uint64(40)).astype(np.float32) * np.float32(2.0 ** -24)
    return ((fraction - np.float32(0.5)) * np.float32(scale)).reshape(shape)


def lora(layer, kind, rank, inputs, outputs, deviation):
    """A [rank, in] of variance 1/in, B [out, rank] of the given deviation, for matrix number `kind` (0 = q, …, 6 = down)."""
    stream = 2 * (7 * layer + kind)
    a = uniform(stream, (rank, inputs), np.sqrt(12.0 / inputs))
    b = uniform(stream + 1, (outputs, rank), deviation * np.sqrt(12.0))
    return a, b
