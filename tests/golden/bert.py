"""A BERT encoder in plain torch, double precision, one text at a time; a tiny one written as a folder and as GGUF; and the
vectors that hone must compute."""
import json
import zlib

import numpy as np
import torch
import torch.nn.functional as F

import generator
import gguf
import safetensors
from quantization import F16, F32, quantize

WIDTH, HEADS, FFN_WIDTH, LAYERS, POSITIONS, SEGMENTS, EPSILON = 32, 4, 56, 3, 40, 2, 1e-12
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
STARTS = list("abcdefghijklmnopqrstuvwxyz0123456789.,!?-'()[]") + [
    "the", "and", "to", "of", "a", "in", "is", "it", "cafe", "uber", "token", "un", "play", "\u4e2d", "\u6587"]
CONTINUATIONS = list("abcdefghijklmnopqrstuvwxyz0123456789") + ["ing", "er", "ed", "s", "ization", "able", "the"]
TINY_TEXTS = ([2, 3], [2, 45, 3], [2, 50, 61, 7, 23, 80, 81, 3], [2] + [5 + 7 * i % 98 for i in range(38)] + [3])

# GGUF's name of a tensor, and the published one.
EMBEDDINGS = {"token_embd": "embeddings.word_embeddings", "position_embd": "embeddings.position_embeddings",
              "token_types": "embeddings.token_type_embeddings", "token_embd_norm": "embeddings.LayerNorm"}
BLOCK = {"attn_q": "attention.self.query", "attn_k": "attention.self.key", "attn_v": "attention.self.value",
         "attn_output": "attention.output.dense", "attn_output_norm": "attention.output.LayerNorm",
         "ffn_up": "intermediate.dense", "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm"}


class Bert:
    """`weights` has the published names."""

    def __init__(self, weights, heads, epsilon):
        self.weights = {name: torch.from_numpy(np.array(w)).double() for name, w in weights.items() if w.dtype.kind == "f"}
        self.heads, self.epsilon = heads, epsilon
        self.layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.weights[name + ".weight"], self.weights[name + ".bias"], self.epsilon)

    def linear(self, x, name):
        return F.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def states(self, tokens):
        """The hidden states [n, width] after 0, 1, … layers."""
        table = self.weights["embeddings.word_embeddings.weight"]
        x = table[torch.tensor(tokens)] + self.weights["embeddings.position_embeddings.weight"][:len(tokens)]
        x = self.norm(x + self.weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        states = [x]
        for layer in range(self.layers):
            prefix = f"encoder.layer.{layer}."
            q, k, v = (self.linear(x, prefix + f"attention.self.{name}").unflatten(-1, (self.heads, -1)).transpose(0, 1)
                       for name in ("query", "key", "value"))
            p = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1)
            attended = self.linear((p @ v).transpose(0, 1).flatten(1), prefix + "attention.output.dense")
            x = self.norm(x + attended, prefix + "attention.output.LayerNorm")
            hidden = F.gelu(self.linear(x, prefix + "intermediate.dense"))
            x = self.norm(x + self.linear(hidden, prefix + "output.dense"), prefix + "output.LayerNorm")
            states.append(x)
        return states


def read_folder(folder):
    config = json.loads((folder / "config.json").read_text())
    return Bert(safetensors.read(folder / "model.safetensors"), config["num_attention_heads"], config["layer_norm_eps"])


def _tensors():
    """Yields (GGUF name, published name, values)."""

    def random(name, shape, deviation):
        return generator.uniform(zlib.crc32(f"bert/{name}".encode()), shape, deviation * np.sqrt(12.0))

    def pair(name, published, shape, deviation):
        is_norm = name.endswith("norm")
        weight = random(name + ".weight", shape, deviation)
        yield name + ".weight", published + ".weight", 1 + weight if is_norm else weight
        yield name + ".bias", published + ".bias", random(name + ".bias", shape[:1], 0.2)

    entries = len(SPECIAL) + len(STARTS) + len(CONTINUATIONS)
    for name, rows in (("token_embd", entries), ("position_embd", POSITIONS), ("token_types", SEGMENTS)):
        values = random(name, (rows, WIDTH), 0.4).astype(np.float16).astype(np.float32)
        yield name + ".weight", EMBEDDINGS[name] + ".weight", values
    yield from pair("token_embd_norm", EMBEDDINGS["token_embd_norm"], (WIDTH,), 0.2)
    shapes = {"ffn_up": (FFN_WIDTH, WIDTH), "ffn_down": (WIDTH, FFN_WIDTH)}
    for layer in range(LAYERS):
        for name, published in BLOCK.items():
            shape = (WIDTH,) if name.endswith("norm") else shapes.get(name, (WIDTH, WIDTH))
            deviation = 0.2 if name.endswith("norm") else 1.3 / np.sqrt(shape[1])
            yield from pair(f"blk.{layer}.{name}", f"encoder.layer.{layer}.{published}", shape, deviation)


def write_tiny(models):
    """models/bert, a folder with CLS pooling and length 1, and models/bert.gguf, the same weights."""
    tensors = list(_tensors())
    folder = models / "bert"
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)

    def write_json(name, value):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")

    tokens = SPECIAL + STARTS + ["##" + text for text in CONTINUATIONS]
    write_json("config.json", {
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH, "intermediate_size": FFN_WIDTH,
        "layer_norm_eps": EPSILON, "max_position_embeddings": POSITIONS, "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS, "position_embedding_type": "absolute", "type_vocab_size": SEGMENTS,
        "vocab_size": len(tokens)})
    write_json("modules.json", [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                                for i, (path, kind) in enumerate((("", "Transformer"), ("1_Pooling", "Pooling"),
                                                                  ("2_Normalize", "Normalize")))])
    write_json("1_Pooling/config.json", {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": True,
                                         "pooling_mode_mean_tokens": False})
    (folder / "vocab.txt").write_text("".join(token + "\n" for token in tokens), encoding="utf-8")
    safetensors.write(folder / "model.safetensors", {published: values for _, published, values in tensors})

    fields = {"block_count": LAYERS, "context_length": POSITIONS, "embedding_length": WIDTH,
              "feed_forward_length": FFN_WIDTH, "attention.head_count": HEADS,
              "attention.layer_norm_epsilon": EPSILON, "attention.causal": False, "pooling_type": 2}
    metadata = {"general.architecture": "bert", "general.name": "Tiny bert"}
    metadata |= {f"bert.{key}": value for key, value in fields.items()}
    metadata |= {
        "tokenizer.ggml.model": "bert", "tokenizer.ggml.pre": "jina-v2-en",
        "tokenizer.ggml.tokens": SPECIAL + ["\u2581" + text for text in STARTS] + CONTINUATIONS,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(STARTS) + len(CONTINUATIONS)),
        "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.unknown_token_id": 1, "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3, "tokenizer.ggml.mask_token_id": 4}
    kinds = {"token_embd.weight": F16}
    gguf.write(models / "bert.gguf", metadata,
               [(name, list(values.shape), kind := kinds.get(name, F32), quantize(kind, values))
                for name, _, values in tensors])


def write_values(folder, texts, layers, path):
    """Hidden states after `layers` of them, packed, and the texts' tokens and where they start."""
    model = read_folder(folder)
    states = [model.states(tokens) for tokens in texts]
    safetensors.write(path, {
        "tokens": np.concatenate([np.array(tokens) for tokens in texts]),
        "start": np.cumsum([0] + [len(tokens) for tokens in texts])
    } | {f"states.{layer}": torch.cat([s[layer] for s in states]).numpy() for layer in layers})


def write_vectors(folder, texts, path):
    """Mean vectors at length 1 of the last layer's states, and the middle layer's mean vectors as they are."""
    model = read_folder(folder)
    states = [model.states(tokens) for tokens in texts]
    middle = model.layers // 2
    safetensors.write(path, {
        "vectors": torch.stack([F.normalize(s[-1].mean(0), dim=0) for s in states]).numpy(),
        f"layer {middle}": torch.stack([s[middle].mean(0) for s in states]).numpy()})
