"""The three architectures in plain torch, one sequence at a time: slow, short, and what hone is held against."""
import math

import torch
import torch.nn.functional as F

KINDS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
GEMMA3_GLOBAL_EVERY = 6
GEMMA3_LOCAL_ROPE_BASE = 10000.0


def rms_norm(x, weight, epsilon):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


class Transformer:
    """`weights` maps GGUF tensor names to tensors of `dtype`; a LoRA maps (layer, kind) to A [rank, in], B [out, rank]."""

    def __init__(self, file, dtype=torch.float32):
        self.architecture = file.metadata["general.architecture"]
        if self.architecture not in ("llama", "qwen2", "gemma3"):
            raise ValueError(f"no reference for architecture {self.architecture}")
        self.weights = {name: torch.from_numpy(file.matrix(name)).to(dtype) for name in file.names()}

        def field(key, *default):
            key = f"{self.architecture}.{key}"
            return file.metadata.get(key, *default) if default else file.metadata[key]

        self.layers = field("block_count")
        self.width = field("embedding_length")
        self.heads = field("attention.head_count")
        self.kv_heads = field("attention.head_count_kv", self.heads)
        self.head_dim = field("attention.key_length", self.width // self.heads)
        self.epsilon = field("attention.layer_norm_rms_epsilon")
        self.rope_base = field("rope.freq_base", 10000.0)
        self.rotated = field("rope.dimension_count", self.head_dim)
        self.window = field("attention.sliding_window", None)

    def is_global(self, layer):
        return self.architecture != "gemma3" or (layer + 1) % GEMMA3_GLOBAL_EVERY == 0

    def angles(self, layer, length):
        """[length, rotated / 2]"""
        base = self.rope_base if self.is_global(layer) else GEMMA3_LOCAL_ROPE_BASE
        frequencies = base ** (-torch.arange(0, self.rotated, 2, dtype=torch.float64) / self.rotated)
        if "rope_freqs.weight" in self.weights:
            frequencies = frequencies / self.weights["rope_freqs.weight"].double()
        return torch.arange(length, dtype=torch.float64)[:, None] * frequencies

    def rotate(self, x, angles):
        """x [heads, T, head_dim]; llama's GGUF pairs neighbours, the others pair the two halves."""
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        rotating, rest = x[..., :self.rotated], x[..., self.rotated:]
        if self.architecture == "llama":
            a, b = rotating[..., 0::2], rotating[..., 1::2]
            turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
        else:
            a, b = rotating.chunk(2, dim=-1)
            turned = torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
        return torch.cat([turned, rest], dim=-1)

    def visible(self, layer, length):
        """[T, T], true where the query of a row may see the key of a column."""
        distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        seen = distance >= 0
        return seen if self.is_global(layer) else seen & (distance < self.window)

    def norm(self, x, name):
        return rms_norm(x, self.weights[name + ".weight"], self.epsilon)

    def linear(self, layer, kind, x, lora):
        name = f"blk.{layer}.{kind}"
        y = F.linear(x, self.weights[name + ".weight"], self.weights.get(name + ".bias"))
        if lora and (layer, kind) in lora:
            a, b = lora[layer, kind]
            y = y + F.linear(F.linear(x, a), b)
        return y

    def attention(self, layer, x, lora):
        length = x.shape[0]

        def heads(kind, count):
            return self.linear(layer, kind, x, lora).view(length, count, self.head_dim).transpose(0, 1)

        q, k, v = heads("attn_q", self.heads), heads("attn_k", self.kv_heads), heads("attn_v", self.kv_heads)
        if self.architecture == "gemma3":
            q, k = self.norm(q, f"blk.{layer}.attn_q_norm"), self.norm(k, f"blk.{layer}.attn_k_norm")
        angles = self.angles(layer, length)
        q, k = self.rotate(q, angles), self.rotate(k, angles)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, dim=0), v.repeat_interleave(group, dim=0)
        scores = q @ k.transpose(1, 2) / math.sqrt(self.head_dim)
        scores = scores.masked_fill(~self.visible(layer, length), -math.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, self.heads * self.head_dim)
        return self.linear(layer, "attn_output", mixed, lora)

    def feed_forward(self, layer, x, lora):
        gate = self.linear(layer, "ffn_gate", x, lora)
        gate = F.gelu(gate, approximate="tanh") if self.architecture == "gemma3" else F.silu(gate)
        return self.linear(layer, "ffn_down", gate * self.linear(layer, "ffn_up", x, lora), lora)

    def block(self, layer, x, lora):
        sandwich = self.architecture == "gemma3"
        y = self.attention(layer, self.norm(x, f"blk.{layer}.attn_norm"), lora)
        x = x + (self.norm(y, f"blk.{layer}.post_attention_norm") if sandwich else y)
        y = self.feed_forward(layer, self.norm(x, f"blk.{layer}.ffn_norm"), lora)
        return x + (self.norm(y, f"blk.{layer}.post_ffw_norm") if sandwich else y)

    def hidden(self, tokens, lora=None):
        """Tokens [T] to the last layer's output [T, width]."""
        x = self.weights["token_embd.weight"][tokens]
        if self.architecture == "gemma3":
            x = x * math.sqrt(self.width)
        for layer in range(self.layers):
            x = self.block(layer, x, lora)
        return x

    def logits(self, hidden):
        """[R, width] to [R, vocabulary]"""
        head = self.weights.get("output.weight", self.weights["token_embd.weight"])
        return F.linear(self.norm(hidden, "output_norm"), head)
