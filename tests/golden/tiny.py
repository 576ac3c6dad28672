"""Tiny random models of each architecture, with the metadata that real files of the architecture have."""
import zlib

import numpy as np

import generator
import gguf
import vocabulary
from quantization import BF16, BLOCKS, F16, F32, NAMES, Q4_1, Q5_0, Q8_0, dequantize, quantize

WIDTH, HEADS, KV_HEADS, FFN_WIDTH, CONTEXT = 64, 4, 2, 96, 512


class Builder:
    """Collects the tensors of one model; every tensor's values follow from the model's and the tensor's name."""

    def __init__(self, name, types):
        self.name, self.types, self.tensors = name, types, []

    def add(self, tensor, values, kind):
        self.tensors.append((tensor, list(values.shape), kind, quantize(kind, values)))

    def random(self, tensor, shape, deviation):
        stream = zlib.crc32(f"{self.name}/{tensor}".encode())
        return generator.uniform(stream, shape, deviation * np.sqrt(12.0))

    def matrix(self, tensor, rows, cols, deviation):
        kind = self.types[tensor.split(".")[-1]]
        self.add(tensor + ".weight", self.random(tensor, (rows, cols), deviation), kind)

    def linear(self, tensor, outputs, inputs, gain=1.0):
        self.matrix(tensor, outputs, inputs, gain / np.sqrt(inputs))

    def norm(self, tensor, size):
        self.add(tensor + ".weight", 1 + self.random(tensor, (size,), 0.2), F32)

    def bias(self, tensor, size):
        self.add(tensor + ".bias", self.random(tensor, (size,), 0.3), F32)

    def block(self, layer, architecture, head_dim):
        prefix = f"blk.{layer}."
        self.norm(prefix + "attn_norm", WIDTH)
        for kind, heads, gain in (("attn_q", HEADS, 1.5), ("attn_k", KV_HEADS, 1.5), ("attn_v", KV_HEADS, 1.0)):
            self.linear(prefix + kind, heads * head_dim, WIDTH, gain)
            if architecture == "qwen2":
                self.bias(prefix + kind, heads * head_dim)
        self.linear(prefix + "attn_output", WIDTH, HEADS * head_dim)
        self.norm(prefix + "ffn_norm", WIDTH)
        self.linear(prefix + "ffn_gate", FFN_WIDTH, WIDTH)
        self.linear(prefix + "ffn_up", FFN_WIDTH, WIDTH)
        self.linear(prefix + "ffn_down", WIDTH, FFN_WIDTH)
        if architecture == "gemma3":
            self.norm(prefix + "attn_q_norm", head_dim)
            self.norm(prefix + "attn_k_norm", head_dim)
            self.norm(prefix + "post_attention_norm", WIDTH)
            self.norm(prefix + "post_ffw_norm", WIDTH)


def _types(embedding, attention, feed_forward, **exceptions):
    types = {"token_embd": embedding, "output": embedding}
    types |= {f"attn_{part}": attention for part in ("q", "k", "v", "output")}
    types |= {f"ffn_{part}": feed_forward for part in ("gate", "up", "down")}
    return types | exceptions


def _metadata(name, architecture, layers, tokenizer, fields):
    metadata = {"general.architecture": architecture, "general.type": "model", "general.name": name,
                "general.license": "apache-2.0"}
    fields = {
        "block_count": layers, "context_length": CONTEXT, "embedding_length": WIDTH, "feed_forward_length": FFN_WIDTH,
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS,
        "vocab_size": len(tokenizer["tokenizer.ggml.tokens"]),
    } | fields
    metadata |= {f"{architecture}.{key}": value for key, value in fields.items()}
    return metadata | tokenizer | {"general.quantization_version": 2}


def _write(folder, name, architecture, layers, head_dim, tokenizer, types, fields, output=False, rope_factors=None):
    builder = Builder(name, types)
    entries = len(tokenizer["tokenizer.ggml.tokens"])
    builder.matrix("token_embd", entries, WIDTH, 0.35)
    builder.norm("output_norm", WIDTH)
    if output:
        builder.matrix("output", entries, WIDTH, 0.3)
    if rope_factors:
        builder.add("rope_freqs.weight", np.array(rope_factors), F32)
    for layer in range(layers):
        builder.block(layer, architecture, head_dim)
    gguf.write(folder / f"{name}.gguf", _metadata(f"Tiny {name}", architecture, layers, tokenizer, fields),
               builder.tensors)


def write_models(folder):
    _write(folder, "llama", "llama", 3, 16,
           vocabulary.byte_level("smollm", True, "<|im_start|>", "<|im_end|>"),
           _types(F16, F32, Q4_1, attn_v=F16, attn_output=F16),
           {"rope.freq_base": 10000.0, "rope.dimension_count": 16, "attention.layer_norm_rms_epsilon": 1e-5})
    _write(folder, "llama_untied", "llama", 3, 16,
           vocabulary.byte_level("llama-bpe", False, "<|endoftext|>", "<|im_end|>"),
           _types(BF16, Q8_0, BF16),
           {"rope.freq_base": 500000.0, "rope.dimension_count": 16, "attention.key_length": 16,
            "attention.value_length": 16, "attention.layer_norm_rms_epsilon": 1e-5},
           output=True, rope_factors=[1, 1, 1.5, 2.5, 4, 8, 8, 8])
    _write(folder, "qwen2", "qwen2", 3, 16,
           vocabulary.byte_level("qwen2", False, "<|endoftext|>", "<|im_end|>"),
           _types(Q8_0, Q8_0, Q8_0),
           {"rope.freq_base": 1000000.0, "attention.layer_norm_rms_epsilon": 1e-6})
    _write(folder, "gemma3", "gemma3", 7, 32, vocabulary.sentence_piece(),
           _types(Q8_0, Q5_0, Q5_0, attn_v=Q8_0, ffn_down=Q4_1),
           {"rope.freq_base": 1000000.0, "attention.key_length": 32, "attention.value_length": 32,
            "attention.sliding_window": 8, "attention.layer_norm_rms_epsilon": 1e-6})


def write_quantization(folder):
    """A file with two rows of random blocks of every tensor type; returns what they mean, by tensor name."""
    tensors, values = [], {}
    for kind, (block_values, block_bytes) in BLOCKS.items():
        rows, cols = 2, 512
        if block_values == 1:
            data = quantize(kind, generator.uniform(kind, (rows, cols), 4.0))
        else:
            blocks = rows * cols // block_values
            data = _random_blocks(kind, blocks, block_bytes)
        name = NAMES[kind].lower()
        tensors.append((name, [rows, cols], kind, data))
        values[name] = dequantize(kind, data, rows * cols).reshape(rows, cols)
    gguf.write(folder / "quantization.gguf", {"general.architecture": "none"}, tensors)
    return values


def _random_blocks(kind, blocks, block_bytes):
    """Any byte is a valid weight; the fp16 scales are made finite: at the start of a block, for Q6_K at its end."""
    data = (generator.bits(kind, blocks * block_bytes) >> np.uint64(56)).astype(np.uint8).reshape(blocks, block_bytes)
    scales = generator.uniform(1000 + kind, (blocks, 2), 0.5).astype(np.float16).view(np.uint8).reshape(blocks, 4)
    name = NAMES[kind]
    if name == "Q6_K":
        data[:, -2:] = scales[:, :2]
    else:
        size = 4 if name in ("Q4_1", "Q5_1", "Q4_K", "Q5_K") else 2
        data[:, :size] = scales[:, :size]
    return data.tobytes()
