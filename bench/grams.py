"""Grams of all blocks of all layers from one packed pass, beside torch on the same machine in the same minute.

Eleven prompts of ten digit pairs like "3->5" (each left out once, and a query); blocks are v per key/value head, o per
head, and q, k, gate, up, down. Torch reads the same file in fp32 on the same threads and computes the same Grams
  one by one:     one backward pass a prompt for all weight gradients, then each block's Gram of these;
  hooked:         one padded batch, inputs and output gradients of every linear layer kept, each prompt's gradients of a
                  block multiplied out and then their Gram;
  hooked, dual:   the same, with products of inputs and of output gradients between all positions instead.
Runs are interleaved; medians. Usage: ./dev bench grams [REPETITIONS]
"""
import os
import pathlib
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

import speed
from speed import KINDS, ROOT, rms_norm

DIGITS, ARROW, NEWLINE = list(range(32, 42)), 22690, 198  # SmolLM2's tokens
PAIRS = [(x, (x + 2) % 10) for x in range(10)]


def prompts():
    def prompt(pairs, x):
        shown = [token for a, b in pairs for token in (DIGITS[a], ARROW, DIGITS[b], NEWLINE)]
        return shown + [DIGITS[x], ARROW]

    return [prompt(PAIRS, 5)] + [prompt(PAIRS[:i] + PAIRS[i + 1:], x) for i, (x, _) in enumerate(PAIRS)]


class Peer(speed.Peer):
    """Several prompts at once, with torch's fused attention; `record(layer, kind, x, y)` sees every linear layer."""

    def batch_hidden(self, tokens, record=None):
        x = self.weights["token_embd.weight"][tokens]
        if record:
            x.requires_grad_()
        count, length = tokens.shape
        angles = self.angles(0, length)
        group = self.heads // self.kv_heads

        def linear(h, layer, kind):
            y = F.linear(h, self.weights[f"blk.{layer}.{kind}.weight"])
            if record:
                record(layer, kind, h, y)
            return y

        def heads(y, number):
            return y.view(count, length, number, self.head_dim).transpose(1, 2)

        for layer in range(self.layers):
            h = rms_norm(x, self.weights[f"blk.{layer}.attn_norm.weight"], self.epsilon)
            q = self.rotate(heads(linear(h, layer, "attn_q"), self.heads), angles)
            k = self.rotate(heads(linear(h, layer, "attn_k"), self.kv_heads), angles)
            v = heads(linear(h, layer, "attn_v"), self.kv_heads)
            out = F.scaled_dot_product_attention(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1),
                                                 is_causal=True)
            x = x + linear(out.transpose(1, 2).reshape(count, length, -1), layer, "attn_output")
            h = rms_norm(x, self.weights[f"blk.{layer}.ffn_norm.weight"], self.epsilon)
            gated = F.silu(linear(h, layer, "ffn_gate")) * linear(h, layer, "ffn_up")
            x = x + linear(gated, layer, "ffn_down")
        return x

    def readout(self, last):
        """Σ_j j/9 softmax(digit logits)_j of the last positions' hidden rows."""
        h = rms_norm(last, self.weights["output_norm.weight"], self.epsilon)
        logits = F.linear(h, self.weights["token_embd.weight"][DIGITS])
        return logits.softmax(-1) @ (torch.arange(10) / 9)

    def parts(self, kind, gradient):
        """[B, out, in] as the blocks' gradients."""
        if kind == "attn_v":
            return gradient.split(self.head_dim, dim=1)
        if kind == "attn_output":
            return gradient.split(self.head_dim, dim=2)
        return [gradient]

    def grams_of(self, kind, gradient):
        flat = [part.reshape(len(gradient), -1) for part in self.parts(kind, gradient)]
        return [f @ f.T for f in flat]

    def one_by_one(self):
        keys = [(layer, kind) for layer in range(self.layers) for kind in KINDS]
        weights = [self.weights[f"blk.{layer}.{kind}.weight"].requires_grad_() for layer, kind in keys]
        each = []
        for prompt in prompts():
            output = self.readout(self.batch_hidden(torch.tensor([prompt]))[:, -1]).sum()
            each.append(torch.autograd.grad(output, weights))
        for weight in weights:
            weight.requires_grad_(False)
        return [gram for (_, kind), gradients in zip(keys, zip(*each))
                for gram in self.grams_of(kind, torch.stack(gradients))]

    def backward_of_batch(self):
        texts = prompts()
        last = torch.tensor([len(text) - 1 for text in texts])
        tokens = torch.zeros(len(texts), int(last.max()) + 1, dtype=torch.long)
        for row, text in zip(tokens, texts):
            row[:len(text)] = torch.tensor(text)
        kept = []

        def record(layer, kind, x, y):
            y.retain_grad()
            kept.append((kind, x.detach(), y))

        hidden = self.batch_hidden(tokens, record)
        self.readout(hidden[torch.arange(len(texts)), last]).sum().backward()
        return [(kind, x, y.grad) for kind, x, y in kept]

    def hooked(self):
        return [gram for kind, x, delta in self.backward_of_batch()
                for gram in self.grams_of(kind, delta.transpose(1, 2) @ x)]

    def hooked_dual(self):
        grams, inputs, products = [], None, None
        for kind, x, delta in self.backward_of_batch():
            count, length, _ = x.shape

            def between(rows):
                rows = rows.reshape(count * length, -1)
                return rows @ rows.T

            def gram(a, d):
                return (a * d).view(count, length, count, length).sum((1, 3))

            if kind == "attn_output":
                d = between(delta)
                grams += [gram(between(head), d) for head in x.split(self.head_dim, dim=2)]
                continue
            if inputs is None or inputs.data_ptr() != x.data_ptr():
                inputs, products = x, between(x)
            heads = delta.split(self.head_dim, dim=2) if kind == "attn_v" else [delta]
            grams += [gram(products, between(head)) for head in heads]
        return grams


def same(one, other):
    """Both list the blocks in the order of KINDS within a layer, or in the order of the forward pass, which is the same."""
    for a, b in zip(one, other, strict=True):
        scale = a.diagonal().sqrt()
        assert ((a - b).abs() <= 1e-3 * scale[:, None] * scale[None, :]).all(), "torch disagrees with itself"


def operations(peer):
    """Floating-point operations of hone's way: rows that are computed once forward, a row a token backward, and for the
    Grams a·a' of the former and δ·δ' of the latter, each pair once."""
    texts = prompts()
    backward = sum(map(len, texts))
    forward, seen = 0, []
    for text in texts:
        shared = max((next((i for i, (a, b) in enumerate(zip(text, other)) if a != b), min(len(text), len(other)))
                      for other in seen), default=0)
        forward += len(text) - shared
        seen.append(text)
    layers = [[peer.weights[f"blk.{layer}.{kind}.weight"] for kind in KINDS] for layer in range(peer.layers)]
    weights = sum(matrix.numel() for layer in layers for matrix in layer)
    outputs = sum(matrix.shape[0] for layer in layers for matrix in layer)
    inputs = sum(layer[i].shape[1] for layer in layers for i in (0, 3, 4, 6))  # q = k = v, o, gate = up, down
    return 2 * weights * (forward + backward) + backward ** 2 * outputs + forward ** 2 * inputs


def product_speed(size=2048):
    """Operations a second of a large matrix product, the most that can be hoped for."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    start = time.perf_counter()
    a @ b
    return 2 * size ** 3 / (time.perf_counter() - start)


def main():
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    program = subprocess.run([ROOT / "build" / "hone", "model", "get", "smollm2"], stdout=subprocess.PIPE, text=True,
                             check=True)
    model = program.stdout.strip()
    peer = Peer(speed.gguf.Reader(model))
    ours = subprocess.Popen([ROOT / "build" / "bench_speed", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True)

    def hone():
        ours.stdin.write("grams fp32\n")
        ours.stdin.flush()
        return float(ours.stdout.readline())

    def seconds(run):
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    reference = peer.one_by_one()
    same(reference, peer.hooked())
    same(reference, peer.hooked_dual())
    ways = [("one by one", peer.one_by_one, 3.5), ("hooked", peer.hooked, 1.8), ("hooked, dual", peer.hooked_dual, None)]
    rounds = [(hone(), product_speed(), [seconds(run) for _, run, _ in ways]) for _ in range(repetitions + 1)][1:]
    mine = statistics.median(row[0] for row in rounds)
    peak = statistics.median(row[1] for row in rounds)
    needed = operations(peer)
    print(f"hone {mine:.3f} s for {needed / 1e9:.0f} GFLOP: {needed / mine / 1e9:.0f} GFLOP/s, "
          f"{100 * needed / mine / peak:.0f} % of torch's large matrix product ({peak / 1e9:.0f} GFLOP/s)")
    print(f"{'torch ' + torch.__version__:24} {'s':>8} {'ratio':>6} {'asked':>5}")
    for i, (title, _, asked) in enumerate(ways):
        other = statistics.median(row[2][i] for row in rounds)
        ratio = statistics.median(row[2][i] / row[0] for row in rounds)
        print(f"{title:24} {other:8.3f} {ratio:6.2f} {asked or '-':>5}")


if __name__ == "__main__":
    main()
