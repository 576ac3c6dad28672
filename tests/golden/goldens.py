"""What hone must compute: logits, losses, gradients and optimiser steps of the reference, in double precision."""
import numpy as np
import torch
import torch.nn.functional as F

import generator
import gguf
import safetensors
from transformer import KINDS, Transformer

ADAM_STEPS = 10
NAMES = ("q", "k", "v", "o", "gate", "up", "down")
HEAD_ROWS = 64  # rows whose logits are held at a time


def make_lora(model, rank, deviation):
    lora = {}
    for layer in range(model.layers):
        for number, kind in enumerate(KINDS):
            outputs, inputs = model.weights[f"blk.{layer}.{kind}.weight"].shape
            a, b = generator.lora(layer, number, rank, inputs, outputs, deviation)
            lora[layer, kind] = tuple(torch.from_numpy(m).double().requires_grad_() for m in (a, b))
    return lora


def parameters(lora):
    return [matrix for pair in lora.values() for matrix in pair]


class Batch:
    """Sequences of tokens, and the loss Σ weights[r] · −log p(targets[r]) over some of their packed rows."""

    def __init__(self, sequences, rows, targets, weights):
        self.sequences, self.rows, self.targets, self.weights = sequences, rows, targets, weights

    def hidden(self, model, lora=None):
        return torch.cat([model.hidden(sequence, lora) for sequence in self.sequences])

    def losses(self, model, lora=None):
        with torch.no_grad():
            hidden = self.hidden(model, lora)[self.rows]
            return torch.cat([F.cross_entropy(model.logits(h), t, reduction="none")
                              for h, t in zip(hidden.split(HEAD_ROWS), self.targets.split(HEAD_ROWS))])

    def backward(self, model, lora):
        """Adds the loss's gradients to every parameter that wants one; returns the loss."""
        hidden = self.hidden(model, lora)[self.rows]
        leaf = hidden.detach().requires_grad_()
        total = 0.0
        for rows in torch.arange(len(self.rows)).split(HEAD_ROWS):
            losses = F.cross_entropy(model.logits(leaf[rows]), self.targets[rows], reduction="none")
            loss = losses @ self.weights[rows]
            loss.backward()
            total += loss.item()
        hidden.backward(leaf.grad)
        return total

    def adam(self, model, lora, learning_rate):
        """The loss before the first step and after each of ten, on this same batch."""
        optimizer = torch.optim.Adam(parameters(lora), lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)
        curve = []
        for _ in range(ADAM_STEPS):
            optimizer.zero_grad()
            curve.append(self.backward(model, lora))
            optimizer.step()
        curve.append((self.losses(model, lora) @ self.weights).item())
        return np.array(curve)


def tiny_batch(vocabulary):
    """Three sequences; a third of the rows carry loss, with unequal weights and, at a text's end, any target."""
    lengths = (1, 17, 40)
    tokens = torch.from_numpy((generator.bits(7, sum(lengths)) % np.uint64(vocabulary)).astype(np.int64))
    rows = torch.arange(0, len(tokens), 3)
    weights = (1 + torch.arange(len(rows)) % 4).double()
    return Batch(tokens.split(lengths), rows, tokens.roll(-1)[rows], weights / weights.sum())


def whole_context(model, vocabulary):
    """512 tokens read at once: every row's log-normaliser, every thirty-second row's logits."""
    tokens = torch.from_numpy((generator.bits(8, 512) % np.uint64(vocabulary)).astype(np.int64))
    logits = model.logits(model.hidden(tokens))
    return {"context.tokens": tokens, "context.logits": logits[31::32],
            "context.log_normalizers": logits.logsumexp(-1)}


def write_tiny(model_path, path):
    model = Transformer(gguf.Reader(model_path), torch.float64)
    batch = tiny_batch(len(model.weights["token_embd.weight"]))
    lora = make_lora(model, rank=3, deviation=0.1)
    with torch.no_grad():
        values = {
            "tokens": torch.cat(batch.sequences),
            "lengths": torch.tensor([len(sequence) for sequence in batch.sequences]),
            "rows": batch.rows,
            "targets": batch.targets,
            "weights": batch.weights,
            "logits": model.logits(batch.hidden(model)),
            "losses": batch.losses(model),
            "lora_logits": model.logits(batch.hidden(model, lora)),
            "lora_losses": batch.losses(model, lora),
            **whole_context(model, len(model.weights["token_embd.weight"])),
        }
    layer = 1
    dense = {kind: model.weights[f"blk.{layer}.{kind}.weight"].requires_grad_() for kind in KINDS}
    batch.backward(model, lora)
    for kind, name in zip(KINDS, NAMES):
        values[f"weight_gradient.L{layer}.{name}"] = dense[kind].grad
        dense[kind].requires_grad_(False)
    for (number, kind), (a, b) in lora.items():
        name = f"L{number}.{NAMES[KINDS.index(kind)]}"
        values |= {f"lora.{name}.a": a.detach().clone(), f"lora.{name}.b": b.detach().clone(),
                   f"gradient.{name}.a": a.grad.clone(), f"gradient.{name}.b": b.grad.clone()}
    values["adam"] = torch.from_numpy(batch.adam(model, lora, learning_rate=1e-3))
    safetensors.write(path, {name: value.numpy() for name, value in values.items()})


def write_activation(path):
    """The gates and their slopes, from far below zero to far above."""
    magnitudes = torch.logspace(-4, 4, 161, dtype=torch.float64).float().double()
    x = torch.cat([-magnitudes.flip(0), torch.zeros(1, dtype=torch.float64), magnitudes])
    values = {"x": x}
    for name, function in (("silu", F.silu), ("gelu", lambda x: F.gelu(x, approximate="tanh"))):
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        y.sum().backward()
        values |= {name: y.detach(), f"{name}_slope": leaf.grad}
    safetensors.write(path, {name: value.numpy() for name, value in values.items()})


def sketches(gradients):
    """64 numbers for each matrix, whose distance is that of the matrices but for some 10 %: random signs (Achlioptas 2003).

    Number j is Σ_i ±g_i / 8, minus where bit j of mix(i) is set.
    """
    rows = []
    for gradient in gradients:
        bits = generator.bits(0, gradient.numel()).astype("<u8").view(np.uint8).reshape(-1, 8)
        signs = 1.0 - 2.0 * np.unpackbits(bits, axis=1, bitorder="little")
        rows.append(gradient.reshape(-1).numpy() @ signs / 8)
    return np.stack(rows)


def leave_one_out(examples, query):
    """The query prompt, then each example's prompt without that example; an example is (input, label), lists of tokens."""
    def prompt(shown, end):
        return [token for given, label in shown for token in given + label] + end

    return [prompt(examples, query)] + [prompt(examples[:i] + examples[i + 1:], given)
                                        for i, (given, _) in enumerate(examples)]


def tiny_prompts():
    """Five examples and a query, of unequal lengths; every tiny vocabulary has the first 256 tokens."""
    tokens = (generator.bits(8, 40) % np.uint64(256)).astype(int).tolist()
    examples = [(tokens[7 * i:7 * i + 2 + i], tokens[7 * i + 6:7 * i + 7]) for i in range(5)]
    return leave_one_out(examples, tokens[36:39])


def digit_prompts(digits, arrow, newline):
    """Ten pairs like "3->5" of one shift, two of them wrong, and a query of the same shift."""
    inputs, shift = (3, 7, 0, 9, 4, 4, 1, 8, 6, 2), 2
    labels = [(x + shift) % 10 for x in inputs]
    labels[2], labels[7] = 9, 5
    examples = [([digits[x], arrow], [digits[y], newline]) for x, y in zip(inputs, labels)]
    return leave_one_out(examples, [digits[5], arrow])


def block_gradients(model, layer, gradients):
    """A layer's gradients, by GGUF kind, as its blocks: v by key/value heads, o by heads, in the order of NAMES."""
    for kind, name in zip(KINDS, NAMES):
        gradient = gradients[kind]
        if name == "v":
            yield from gradient.split(model.head_dim, dim=0)
        elif name == "o":
            yield from gradient.split(model.head_dim, dim=1)
        else:
            yield gradient


def write_grams(model_path, prompts, labels, label_values, path, layers_at_a_time=6):
    """Inner products of all prompts' gradients of Σ_j label_values[j] softmax(label logits)_j, for each block.

    Row b holds block b's upper triangle, row by row; blocks in the order of layers and, within one, of NAMES and heads.
    """
    model = Transformer(gguf.Reader(model_path), torch.float64)
    scale = torch.tensor(label_values, dtype=torch.float64)
    upper = torch.triu_indices(len(prompts), len(prompts))
    rows = []
    for first in range(0, model.layers, layers_at_a_time):
        keys = [(layer, kind) for layer in range(first, min(first + layers_at_a_time, model.layers)) for kind in KINDS]
        weights = [model.weights[f"blk.{layer}.{kind}.weight"].requires_grad_() for layer, kind in keys]
        outputs, gradients = [], []
        for prompt in prompts:
            logits = model.logits(model.hidden(torch.tensor(prompt))[-1:])[0, labels]
            output = logits.softmax(-1) @ scale
            gradients.append(dict(zip(keys, torch.autograd.grad(output, weights))))
            outputs.append(output.item())
        for layer in sorted({layer for layer, _ in keys}):
            each = [list(block_gradients(model, layer, {kind: gradient[layer, kind] for kind in KINDS}))
                    for gradient in gradients]
            for blocks in zip(*each):
                stacked = torch.stack([block.reshape(-1) for block in blocks])
                rows.append((stacked @ stacked.T)[upper[0], upper[1]])
        for weight in weights:
            weight.requires_grad_(False)
    safetensors.write(path, {
        "tokens": np.concatenate(prompts), "lengths": np.array([len(prompt) for prompt in prompts]),
        "labels": np.array(labels), "label_values": np.array(label_values), "outputs": np.array(outputs),
        "grams": torch.stack(rows).numpy()})


def write_real(model_path, tokens, path):
    model = Transformer(gguf.Reader(model_path), torch.float64)
    tokens = torch.tensor(tokens)
    rows = torch.arange(0, len(tokens), 8)
    vocabulary = len(model.weights["token_embd.weight"])
    columns = torch.arange(256) * (vocabulary // 256)
    with torch.no_grad():
        hidden = model.hidden(tokens)
        chunks = [model.logits(h) for h in hidden.split(HEAD_ROWS)]
        normalizers = torch.cat([chunk.logsumexp(-1) for chunk in chunks])
        scores = torch.cat([chunk[:, columns] for chunk in chunks])[rows]
        picked = torch.cat([chunk.gather(1, t[:, None])[:, 0]
                            for chunk, t in zip(chunks, tokens.roll(-1).split(HEAD_ROWS))])
        del chunks
    values = {"tokens": tokens, "rows": rows, "columns": columns, "logits": scores, "log_normalizers": normalizers,
              "losses": (normalizers - picked)[:-1]}
    values = {name: value.numpy() for name, value in values.items()}

    text = tokens[:256]
    lora = make_lora(model, rank=4, deviation=0.02)
    for name, first, step in (("some", 15, 16), ("every", 0, 1)):
        rows = torch.arange(first, len(text) - 1, step)
        weights = torch.full((len(rows),), 1.0 / len(rows), dtype=torch.float64)
        batch = Batch([text], rows, text[rows + 1], weights)
        for matrix in parameters(lora):
            matrix.grad = None
        batch.backward(model, lora)
        gradients = [matrix.grad for matrix in parameters(lora)]
        values[f"{name}.norms"] = np.array([gradient.norm().item() for gradient in gradients])
        values[f"{name}.sketches"] = sketches(gradients)
    values["lora_losses"] = batch.losses(model, lora).numpy()
    values["adam"] = batch.adam(model, lora, learning_rate=1e-4)
    safetensors.write(path, values)


def write_heads(path):
    """A linear head that starts anywhere and is trained by full-batch Adam on 37 points of 19 features in 7 classes: the
    logits of two queries before the first and after some steps."""
    classes, dimension, points = 7, 19, 37
    weight, bias = (torch.from_numpy(generator.uniform(stream, shape, 1)).double().requires_grad_()
                    for stream, shape in ((1, (classes, dimension)), (2, (classes,))))
    x = torch.from_numpy(generator.uniform(3, (points, dimension), 4)).double()
    queries = torch.from_numpy(generator.uniform(4, (2, dimension), 4)).double()
    y = torch.from_numpy((generator.bits(5, points) % np.uint64(classes)).astype(np.int64))
    checkpoints, logits, losses = [0, 1, 10, 60], [], []
    optimizer = torch.optim.Adam([weight, bias], lr=0.05)
    for step in range(checkpoints[-1] + 1):
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), y)
        if step in checkpoints:
            logits.append(F.linear(queries, weight, bias).detach())
            losses.append(loss.detach())
        loss.backward()
        optimizer.step()
    safetensors.write(path, {"labels": y, "checkpoints": torch.tensor(checkpoints), "logits": torch.cat(logits),
                             "losses": torch.stack(losses)})
