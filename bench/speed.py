"""hone beside torch on the same machine in the same minute: interleaved runs, medians, ratios.

Torch runs SmolLM2 from the same file in fp32 with its fused attention, no gradients for frozen weights, and the same
threads. Usage: ./dev bench speed [REPETITIONS]
"""
import os
import pathlib
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import gguf  # noqa: E402
from transformer import KINDS, Transformer, rms_norm  # noqa: E402


class Peer(Transformer):
    """A batch of one, with torch's fused attention."""

    def linear(self, x, layer, kind, lora):
        y = F.linear(x, self.weights[f"blk.{layer}.{kind}.weight"])
        if lora and (layer, kind) in lora:
            a, b = lora[layer, kind]
            y = y + F.linear(F.linear(x, a), b)
        return y

    def hidden(self, tokens, lora=None):
        x = self.weights["token_embd.weight"][tokens]
        length = len(tokens)
        angles = self.angles(0, length)
        for layer in range(self.layers):
            weight = lambda name: self.weights[f"blk.{layer}.{name}.weight"]
            heads = lambda y, count: y.view(length, count, self.head_dim).transpose(0, 1)
            h = rms_norm(x, weight("attn_norm"), self.epsilon)
            q = self.rotate(heads(self.linear(h, layer, "attn_q", lora), self.heads), angles)
            k = self.rotate(heads(self.linear(h, layer, "attn_k", lora), self.kv_heads), angles)
            v = heads(self.linear(h, layer, "attn_v", lora), self.kv_heads)
            group = self.heads // self.kv_heads
            out = F.scaled_dot_product_attention(q[None], k.repeat_interleave(group, 0)[None],
                                                 v.repeat_interleave(group, 0)[None], is_causal=True)[0]
            x = x + self.linear(out.transpose(0, 1).reshape(length, -1), layer, "attn_output", lora)
            h = rms_norm(x, weight("ffn_norm"), self.epsilon)
            gated = F.silu(self.linear(h, layer, "ffn_gate", lora)) * self.linear(h, layer, "ffn_up", lora)
            x = x + self.linear(gated, layer, "ffn_down", lora)
        return x

    def loss(self, tokens, lora=None):
        x = rms_norm(self.hidden(tokens, lora)[:-1], self.weights["output_norm.weight"], self.epsilon)
        return F.cross_entropy(F.linear(x, self.weights["token_embd.weight"]), tokens[1:])

    def score(self, count):
        with torch.no_grad():
            self.loss(tokens(count))

    def lora_step(self):
        """All layers, rank 4, 256 tokens, one Adam step."""
        lora = {}
        for layer in range(self.layers):
            for kind in KINDS:
                out, inner = self.weights[f"blk.{layer}.{kind}.weight"].shape
                lora[layer, kind] = (torch.randn(4, inner).div_(inner ** 0.5).requires_grad_(),
                                     torch.zeros(out, 4, requires_grad=True))
        adam = torch.optim.Adam([matrix for pair in lora.values() for matrix in pair], lr=1e-3)
        self.loss(tokens(256), lora).backward()
        adam.step()


def tokens(count):
    return torch.arange(count).mul(7919).add(13).remainder(49152)


def main():
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    program = subprocess.run([ROOT / "build" / "hone", "model", "get", "smollm2"], stdout=subprocess.PIPE, text=True,
                             check=True)
    model = program.stdout.strip()
    peer = Peer(gguf.Reader(model))
    hone = subprocess.Popen([ROOT / "build" / "bench_speed", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ours(operation):
        hone.stdin.write(operation + "\n")
        hone.stdin.flush()
        return float(hone.stdout.readline())

    def theirs(run):
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    cases = [
        ("score 512 tokens, fp32", "score fp32", lambda: peer.score(512), 1.3),
        ("score 512 tokens, int8", "score int8", lambda: peer.score(512), 3),
        ("LoRA step, all layers, 256 tokens, fp32", "lora fp32", peer.lora_step, 2.5),
        ("LoRA step, top layers, int8, beside torch on all", "lora-top int8", peer.lora_step, 5),
        ("weight gradients, top layers, int8, beside the same", "gradient-top int8", peer.lora_step, 5),
    ]
    print(f"{'':52} {'hone s':>8} {'torch s':>8} {'ratio':>6} {'asked':>5}   torch {torch.__version__}")
    for title, operation, run, asked in cases:
        pairs = [(ours(operation), theirs(run)) for _ in range(repetitions + 2)][2:]
        mine, other = (statistics.median(column) for column in zip(*pairs))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"{title:52} {mine:8.3f} {other:8.3f} {ratio:6.2f} {asked:5}")


if __name__ == "__main__":
    main()
