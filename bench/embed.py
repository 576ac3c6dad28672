"""MiniLM in hone beside torch on the same machine in the same minute: interleaved runs, medians, ratios.

Texts are the questions of BANKING77's and CLINC150's test sets and, as longer ones, paragraphs of WikiText-2. Both sides
embed them in batches of 32. Torch gets them tokenised, sorted by length and padded to the longest of a batch, and runs
fp32 with its fused attention and a mask; hone gets them as text, in random order. Usage: ./dev bench embed [REPETITIONS]
"""
import csv
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import safetensors  # noqa: E402

BATCH = 32


class Peer:
    def __init__(self, folder):
        config = json.loads((folder / "config.json").read_text())
        weights = safetensors.read(folder / "model.safetensors")
        self.weights = {name: torch.from_numpy(w.copy()) for name, w in weights.items() if w.dtype.kind == "f"}
        self.heads, self.layers, self.epsilon = (config[key] for key in ("num_attention_heads", "num_hidden_layers",
                                                                         "layer_norm_eps"))

    def linear(self, x, name):
        return F.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.weights[name + ".weight"], self.weights[name + ".bias"], self.epsilon)

    def embed(self, ids, mask):
        """ids [texts, longest] and which of them are tokens."""
        x = F.embedding(ids, self.weights["embeddings.word_embeddings.weight"])
        x = x + self.weights["embeddings.position_embeddings.weight"][:ids.shape[1]]
        x = self.norm(x + self.weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        padding = None if mask.all() else mask[:, None, None, :]
        for layer in range(self.layers):
            prefix = f"encoder.layer.{layer}."
            q, k, v = (self.linear(x, prefix + f"attention.self.{name}").unflatten(-1, (self.heads, -1)).transpose(1, 2)
                       for name in ("query", "key", "value"))
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=padding).transpose(1, 2).flatten(2)
            x = self.norm(x + self.linear(attended, prefix + "attention.output.dense"),
                          prefix + "attention.output.LayerNorm")
            hidden = F.gelu(self.linear(x, prefix + "intermediate.dense"))
            x = self.norm(x + self.linear(hidden, prefix + "output.dense"), prefix + "output.LayerNorm")
        weights = mask[:, :, None].float()
        return F.normalize((x * weights).sum(1) / weights.sum(1), dim=1)

    def embed_all(self, batches):
        with torch.inference_mode():
            return [self.embed(ids, mask) for ids, mask in batches]


def short_texts(data):
    with open(data / "banking77" / "test.csv", newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    texts += [text for text, _ in json.loads((data / "clinc150" / "data_full.json").read_text())["test"]]
    return [" ".join(text.split()) for text in texts]


def long_texts(data):
    lines = next((data / "wikitext2").glob("*test*")).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if 200 < len(line) < 1500 and not line.strip().startswith("=")]


def batches_of(tokens):
    """Padded batches, shortest texts first."""
    tokens = sorted(tokens, key=len)
    result = []
    for i in range(0, len(tokens), BATCH):
        some = tokens[i:i + BATCH]
        ids = torch.zeros(len(some), max(map(len, some)), dtype=torch.long)
        for row, text in zip(ids, some):
            row[:len(text)] = torch.tensor(text)
        lengths = torch.tensor([len(text) for text in some])
        result.append((ids, torch.arange(ids.shape[1]) < lengths[:, None]))
    return result


class Hone:
    def __init__(self, model, texts):
        self.file = tempfile.NamedTemporaryFile("w", encoding="utf-8")
        self.file.write("".join(text + "\n" for text in texts))
        self.file.flush()
        self.process = subprocess.Popen([ROOT / "build" / "bench_embed", model, self.file.name], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.tokens = [list(map(int, self.ask("tokens").split()))] + [list(map(int, self.process.stdout.readline().split()))
                                                                     for _ in texts[1:]]

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def seconds(self, precision):
        seconds, first = self.ask(precision).split()
        self.first = float(first)
        return float(seconds)


def main():
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    torch.set_num_threads(2)
    program = subprocess.run([ROOT / "build" / "hone", "model", "get", "minilm"], stdout=subprocess.PIPE, text=True,
                             check=True)
    model = pathlib.Path(program.stdout.strip())
    data = pathlib.Path(os.environ.get("HONE_DATA") or ROOT.parent / "shared" / "data")
    peer = Peer(model)
    print(f"{'texts':34} {'tokens':>7} {'precision':>9} {'hone/s':>8} {'torch/s':>8} {'ratio':>6}   torch {torch.__version__}")
    for title, texts, count in (("questions", short_texts(data), 1024), ("paragraphs", long_texts(data), 128)):
        texts = random.Random(1).sample(texts, count)
        hone = Hone(model, texts)
        batches = batches_of(hone.tokens)
        ids = torch.tensor([hone.tokens[0]])
        expected = peer.embed_all([(ids, torch.ones_like(ids, dtype=torch.bool))])[0][0, 0].item()
        hone.seconds("fp32")
        if abs(hone.first - expected) > 1e-4:
            sys.exit(f"hone's first value {hone.first} is not torch's {expected}")

        def theirs():
            start = time.perf_counter()
            peer.embed_all(batches)
            return time.perf_counter() - start

        rounds = [(hone.seconds("fp32"), theirs(), hone.seconds("int8"), theirs()) for _ in range(repetitions + 1)][1:]
        for precision, first in (("fp32", 0), ("int8", 2)):
            mine, other = (statistics.median(row[i] for row in rounds) for i in (first, first + 1))
            ratio = statistics.median(row[first + 1] / row[first] for row in rounds)
            name = f"{len(texts)} {title}, batches of {BATCH}"
            count = sum(map(len, hone.tokens))
            print(f"{name:34} {count:7} {precision:>9} {len(texts) / mine:8.0f} {len(texts) / other:8.0f} {ratio:6.2f}",
                  flush=True)


if __name__ == "__main__":
    main()
