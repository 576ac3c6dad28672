#!/usr/bin/env python3
"""Compares hone's LeNet and local heads with torch's on MNIST, on the networks that the authors of arXiv 2509.24510 saved.

    mnist_peer.py TTT_PREDICTIONS [--data FOLDER] [--queries 500] [--net SUBSTRING]

FOLDER holds mnist/ and ttt_mnist/ (default: $HONE_DATA, else ../shared/data beside the checkout); without it nothing is
compared, with a message. torch does the whole protocol itself: features, exact L2 neighbours (fp64), full-batch Adam from
the saved head, with the published hyperparameters. At most one global answer may differ, and one in 500 local ones.
Exit code: 0 agreement, 1 none, 2 wrong usage.
"""

import argparse
import gzip
import json
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import torch
import torch.nn.functional as F

LEAST_AGREEMENT = 0.998
NETS = (
    "mnist_scaled_model_hd25_ss0.35_ot-adam_lr0.006bs500_ne50",
    "torch_global_classifier_mnist_ot-adam_lr0.005bs400_ne50",
    "mnist_scaled_model_seed1_hd192_ss1.0_ot-adam_lr0.0008bs100_ne50",
    "mnist_scaled_model_hd480_ss1.9_ot-adam_lr0.002bs100_ne20",
)


def read_images(folder, prefix):
    with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz") as file:
        _, count, rows, cols = struct.unpack(">4I", file.read(16))
        pixels = np.frombuffer(file.read(), np.uint8).reshape(count, 1, rows, cols)
    with gzip.open(folder / f"{prefix}-labels-idx1-ubyte.gz") as file:
        file.read(8)
        labels = np.frombuffer(file.read(), np.uint8)
    images = (torch.from_numpy(pixels.astype(np.float32)) / 255 - 0.1307) / 0.3081
    return images, torch.from_numpy(labels.astype(np.int64))


def read_safetensors(path):
    data = path.read_bytes()
    size, = struct.unpack_from("<Q", data)
    body = data[8 + size:]
    return {name: torch.frombuffer(bytearray(body[slice(*entry["data_offsets"])]), dtype=torch.float32)
            .reshape(entry["shape"])
            for name, entry in json.loads(data[8:8 + size]).items() if name != "__metadata__"}


def features(weights, images):
    parts = []
    for x in images.split(1000):
        for layer in ("feature_extractor.0", "feature_extractor.3"):
            x = F.max_pool2d(F.relu(F.conv2d(x, weights[layer + ".weight"], weights[layer + ".bias"])), 2)
        parts.append(x.flatten(1))
    return torch.cat(parts)


def nearest(points, queries, k):
    """Ids [Q, k] by exact L2 distance, in double precision."""
    points = points.double()
    norms = points.square().sum(1)
    return torch.cat([(norms - 2 * q.double() @ points.T).topk(k, largest=False).indices for q in queries.split(500)])


def local_answers(weight, bias, x, y, queries, learning_rate, epochs):
    """One head a query, all at once: x [Q, k, d], y [Q, k]. Adam moves every parameter by itself, so the heads of a batch
    do not meet."""
    w = weight.expand(len(x), *weight.shape).clone().requires_grad_()
    b = bias.expand(len(x), 1, *bias.shape).clone().requires_grad_()
    optimizer = torch.optim.Adam([w, b], lr=learning_rate)
    for _ in range(epochs):
        optimizer.zero_grad()
        losses = F.cross_entropy(torch.baddbmm(b, x, w.transpose(1, 2)).transpose(1, 2), y, reduction="none")
        losses.mean(1).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return torch.baddbmm(b, queries[:, None], w.transpose(1, 2))[:, 0].argmax(1)


def compare(net, data, program, count):
    saved = data / "ttt_mnist"
    weights = read_safetensors(saved / f"{net}.safetensors")
    width = weights["classifier.weight"].shape[1]
    published = json.loads((saved / "lft_cnn_opt_params.json").read_text())[str(width)]
    with gzip.open(saved / "train_indices.txt.gz", "rt") as file:
        order = torch.tensor([int(line) for line in file])
    images, y = read_images(data / "mnist", "train")
    x, y = features(weights, images[order]), y[order]
    test, truth = read_images(data / "mnist", "t10k")
    test, truth = features(weights, test[:count]), truth[:count]

    global_answers = F.linear(test, weights["classifier.weight"], weights["classifier.bias"]).argmax(1)
    ids = nearest(x, test, published["num_neighbors"])
    local = torch.cat([
        local_answers(weights["classifier.weight"], weights["classifier.bias"], x[some], y[some], q,
                      published["finetune_lr"], published["finetune_epochs"])
        for some, q in zip(ids.split(100), test.split(100))])

    output = subprocess.run([program, saved / f"{net}.safetensors", str(count)], stdout=subprocess.PIPE, check=True,
                            env=dict(os.environ, HONE_DATA=str(data))).stdout
    ours = torch.frombuffer(bytearray(output), dtype=torch.int32).reshape(2, -1).long()
    different = (ours[0] != global_answers).sum().item()
    agreement = (ours[1] == local).double().mean().item()
    share = lambda answers: 100 * (answers == truth).double().mean().item()
    print(f"{net}, {len(truth)} test images\n"
          f"  global: torch {share(global_answers):.2f} %, hone {share(ours[0]):.2f} %, {different} answers differ\n"
          f"  TTT:    torch {share(local):.2f} %, hone {share(ours[1]):.2f} %, agreement {100 * agreement:.2f} %")
    return different <= 1 and agreement >= LEAST_AGREEMENT


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", metavar="TTT_PREDICTIONS")
    beside = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(os.environ.get("HONE_DATA", beside)))
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--net", default="", help="only networks whose names hold this")
    options = parser.parse_args()
    if not (options.data / "ttt_mnist").is_dir():
        print(f"needs {options.data}/ttt_mnist: absent, nothing is compared")
        return
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # torch's own choice may be one
    torch.manual_seed(0)
    nets = [net for net in NETS if options.net in net]
    results = [compare(net, options.data, options.program, options.queries) for net in nets]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
