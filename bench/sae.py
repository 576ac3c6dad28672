"""A training step of a top-k sparse autoencoder by hone beside torch: interleaved runs, medians, ratios.

384 inputs, 3072 features, batches of 4096 rows, k = 16, dropout .5; with and without ghost gradients. On both sides 5 %
of the features, evenly spaced, have a bias at which they never fire: they are dead from the second step on, and the
first round, which holds the first step, is not counted. Torch decodes the kept features densely, as public trainers do
on a CPU, and, as a second peer, by embedding_bag over the kept rows alone.
Usage: ./dev bench sae [REPETITIONS]
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
INPUTS, FEATURES, BATCH, ACTIVE, DROPOUT, DEAD_BELOW = 384, 3072, 4096, 16, 0.5, 1e-4
DEAD = FEATURES * 5 // 100
STEPS = 2


class Peer:
    def __init__(self, sparse, ghost):
        self.sparse, self.ghost = sparse, ghost
        weights = F.normalize(torch.randn(FEATURES, INPUTS), dim=1)
        self.encoder = weights.T.contiguous().requires_grad_()
        bias = torch.zeros(FEATURES)
        bias[torch.arange(DEAD) * FEATURES // DEAD] = -1
        self.encoder_bias = bias.requires_grad_()
        self.decoder = weights.clone().requires_grad_()
        self.decoder_bias = torch.zeros(INPUTS, requires_grad=True)
        self.parameters = [self.encoder, self.encoder_bias, self.decoder, self.decoder_bias]
        self.adam = torch.optim.Adam(self.parameters, lr=1e-6)
        self.firings, self.rows, self.dead = torch.zeros(FEATURES), 0, 0

    def step(self, x):
        x = F.normalize(x, dim=1)
        directions = F.normalize(self.decoder, dim=1)
        values = F.dropout(x @ self.encoder + self.encoder_bias, DROPOUT)
        largest = values.topk(ACTIVE, dim=1, sorted=False)
        if self.sparse:
            found = F.embedding_bag(largest.indices, directions, per_sample_weights=largest.values, mode="sum")
        else:
            found = torch.zeros_like(values).scatter(1, largest.indices, largest.values) @ directions
        found = found + self.decoder_bias
        loss = F.mse_loss(found, x)
        dead = self.firings < DEAD_BELOW * self.rows
        self.dead = int(dead.sum())
        if self.ghost and self.dead > 0:
            loss = loss + F.mse_loss(values[:, dead] @ directions[dead], (x - found).detach())
        self.adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.adam.step()
        self.firings += torch.bincount(largest.indices.flatten(), minlength=FEATURES)
        self.rows += len(x)

    def seconds_and_dead(self):
        total = 0.0
        for _ in range(STEPS):
            x = torch.randn(BATCH, INPUTS)
            start = time.perf_counter()
            self.step(x)
            total += time.perf_counter() - start
        return total, self.dead


def main():
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(f"{FEATURES} features, {DEAD} of them dead")
    print(f"{'':34} {'hone rows/s':>12} {'torch rows/s':>13} {'ratio':>6} {'asked':>5}   torch {torch.__version__}")
    for revival in ("none", "ghost"):
        arguments = [str(value) for value in (INPUTS, FEATURES, BATCH, ACTIVE, DROPOUT, revival, DEAD)]
        hone = subprocess.Popen([ROOT / "build" / "bench_sae", *arguments], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)

        def ours():
            hone.stdin.write(f"{STEPS}\n")
            hone.stdin.flush()
            seconds, dead = hone.stdout.readline().split()
            return float(seconds), int(dead)

        peers = [("dense", Peer(False, revival == "ghost")), ("embedding_bag", Peer(True, revival == "ghost"))]
        rounds = []
        for _ in range(repetitions + 1):
            measured = [ours(), *(peer.seconds_and_dead() for _, peer in peers)]
            if any(dead != DEAD for _, dead in measured):
                raise SystemExit(f"dead features, hone's and torch's: {[dead for _, dead in measured]}, not {DEAD}")
            rounds.append([seconds for seconds, _ in measured])
        rounds = rounds[1:]
        for column, (name, _) in enumerate(peers, start=1):
            rate = lambda seconds: STEPS * BATCH / seconds
            mine = statistics.median(rate(row[0]) for row in rounds)
            other = statistics.median(rate(row[column]) for row in rounds)
            ratio = statistics.median(row[column] / row[0] for row in rounds)
            print(f"{f'revival {revival}, torch {name}':34} {mine:12.0f} {other:13.0f} {ratio:6.2f} {3:5}")
        hone.stdin.close()
        hone.wait()


if __name__ == "__main__":
    main()
