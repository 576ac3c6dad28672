"""Training one linear head a query on its neighbours, hone beside torch. Usage: bench/heads.sh [REPETITIONS]

torch trains the heads of 64 queries at a time: logits of all in one baddbmm, softmax, gradients in one bmm, Adam on all
weights in place, without autograd. Both get random features of the published sizes and random neighbours; gathering
them is part of the time. Runs are interleaved; ratios are medians of ratios. The last column is hone's second-order
solver in as many iterations as it takes to reach, on the published models' features, Adam's mean objective at ridge 1e-3, to
within 1e-3: TheSecondOrderReachesAdamsObjective in tests/lab/image_experiments_test.cpp holds the first three cases to it.
"""
import os
import pathlib
import statistics
import subprocess
import sys
import time

import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
POINTS, BATCH = 2000, 64
# dimension, classes, neighbours, epochs, learning rate, queries a run of hone and of torch, iterations, ratio asked
CASES = (
    (25, 10, 200, 50, 0.05, 4096, 512, 4, 6),
    (192, 10, 200, 50, 0.01, 512, 128, 4, 6),
    (480, 10, 200, 200, 0.005, 128, 64, 3, 6),
    (384, 150, 50, 50, 0.01, 128, 64, 5, None),
)


def train(weight, bias, x, y, rate, epochs):
    """x [B, k, d], y [B, k, C] one-hot; returns heads [B, d, C] and [B, 1, C]."""
    weight = weight.T.repeat(len(x), 1, 1)
    bias = bias.repeat(len(x), 1, 1)
    rows = x.transpose(1, 2)
    moments = [torch.zeros_like(p) for p in (weight, weight, bias, bias)]
    for step in range(1, epochs + 1):
        residual = torch.baddbmm(bias, x, weight).softmax(-1).sub_(y).div_(x.shape[1])
        gradients = (rows @ residual, residual.sum(1, keepdim=True))
        for p, g, m, v in zip((weight, bias), gradients, moments[::2], moments[1::2]):
            m.lerp_(g, 0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            denominator = v.sqrt().div_((1 - 0.999 ** step) ** 0.5).add_(1e-8)
            p.addcdiv_(m, denominator, value=-rate / (1 - 0.9 ** step))
    return weight, bias


def torch_seconds(case):
    dimension, classes, neighbours, epochs, rate, _, queries, _, _ = case
    points, asked = torch.randn(POINTS, dimension), torch.randn(queries, dimension)
    labels = torch.nn.functional.one_hot(torch.randint(classes, (POINTS,)), classes).float()
    weight, bias = torch.randn(classes, dimension) / dimension ** 0.5, torch.zeros(classes)
    ids = torch.randint(POINTS, (queries, neighbours))
    start = time.perf_counter()
    for some, query in zip(ids.split(BATCH), asked.split(BATCH)):
        w, b = train(weight, bias, points[some], labels[some], rate, epochs)
        torch.baddbmm(b, query[:, None], w)
    return (time.perf_counter() - start) / queries


def check():
    """The loop above is torch.optim.Adam."""
    torch.manual_seed(0)
    x, y = torch.randn(1, 30, 7), torch.randint(3, (1, 30))
    weight, bias = torch.randn(3, 7), torch.randn(3)
    ours = train(weight, bias, x, torch.nn.functional.one_hot(y, 3).float(), 0.05, 20)
    reference = torch.nn.Linear(7, 3)
    reference.weight.data.copy_(weight)
    reference.bias.data.copy_(bias)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(reference(x[0]), y[0]).backward()
        optimizer.step()
    assert torch.allclose(ours[0][0].T, reference.weight, atol=1e-4), "torch disagrees with itself"


def main():
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    check()
    ours = subprocess.Popen([ROOT / "build" / "bench_heads"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hone_seconds(case, solver, steps):
        dimension, classes, neighbours, _, rate, queries = case[:6]
        ours.stdin.write(f"{solver} {dimension} {classes} {neighbours} {steps} {rate} {queries}\n")
        ours.stdin.flush()
        return float(ours.stdout.readline()) / queries

    print(f"{'d':>4} {'C':>4} {'k':>4} {'epochs':>6} {'torch/s':>8} {'hone/s':>8} {'GFLOP/s':>8} {'ratio':>6} {'asked':>5} "
          f"{'L-BFGS/s':>9} {'against Adam':>12}")
    for case in CASES:
        dimension, classes, neighbours, epochs, *_, iterations, asked = case
        rounds = [(torch_seconds(case), hone_seconds(case, "adam", epochs), hone_seconds(case, "lbfgs", iterations))
                  for _ in range(repetitions + 1)][1:]
        other, adam, second = (statistics.median(column) for column in zip(*rounds))
        ratio = statistics.median(row[0] / row[1] for row in rounds)
        faster = statistics.median(row[1] / row[2] for row in rounds)
        operations = 4 * neighbours * classes * dimension * epochs
        print(f"{dimension:4} {classes:4} {neighbours:4} {epochs:6} {1 / other:8.0f} {1 / adam:8.0f} "
              f"{operations / adam / 1e9:8.0f} {ratio:6.1f} {asked or '-':>5} {1 / second:9.0f} {faster:12.1f}")


if __name__ == "__main__":
    main()
