"""A top-k sparse autoencoder trained by torch: what each of a hundred steps loses, and where they end."""
import math

import numpy as np
import torch
import torch.nn.functional as F

import generator
import safetensors

INPUTS, FEATURES, BATCH, STEPS = 16, 64, 64, 100
ACTIVE, INITIAL_ACTIVE, ANNEALING, WARMUP = 4, 16, 60, 20
LEARNING_RATE, CLIP, DEAD_BELOW = 1e-2, 0.02, 0.08
AUXILIARY_ACTIVE, AUXILIARY_WEIGHT = 8, 1 / 32
ENCODER_STREAM, BIAS_STREAM, DATA_STREAM = 900, 901, 1000


def batch(step):
    x = torch.from_numpy(generator.uniform(DATA_STREAM + step, (BATCH, INPUTS), 2.0)).double()
    return F.normalize(x, dim=1)


def active(step):
    fall = (INITIAL_ACTIVE - ACTIVE) * min(step, ANNEALING) / ANNEALING
    return INITIAL_ACTIVE - math.floor(fall + 0.5)


class Autoencoder:
    def __init__(self, pre_bias):
        weights = torch.from_numpy(generator.uniform(ENCODER_STREAM, (FEATURES, INPUTS), 1.0)).double()
        self.pre_bias = pre_bias
        self.encoder = weights.clone().requires_grad_()
        self.encoder_bias = torch.zeros(FEATURES, dtype=torch.float64, requires_grad=True)
        self.decoder = weights.clone().requires_grad_()
        bias = torch.from_numpy(generator.uniform(BIAS_STREAM, (INPUTS,), 0.1)).double()
        self.decoder_bias = bias.requires_grad_()
        self.firings = torch.zeros(FEATURES, dtype=torch.float64)
        self.rows = 0

    def parameters(self):
        return [self.encoder, self.encoder_bias, self.decoder, self.decoder_bias]

    def losses(self, x, k, revival):
        """Reconstruction loss, revival loss, dead features; counts what fires."""
        directions = F.normalize(self.decoder, dim=1)
        seen = x - self.decoder_bias if self.pre_bias else x
        values = seen @ self.encoder.T + self.encoder_bias
        largest = values.topk(k, dim=1)
        kept = torch.zeros_like(values).scatter(1, largest.indices, largest.values)
        found = kept @ directions + self.decoder_bias
        dead = self.firings < DEAD_BELOW * self.rows
        loss, extra = F.mse_loss(found, x), torch.zeros((), dtype=torch.float64)
        if dead.any():
            of_dead = values[:, dead]
            if revival == "auxiliary_k":
                some = of_dead.topk(min(AUXILIARY_ACTIVE, of_dead.shape[1]), dim=1)
                of_dead = torch.zeros_like(of_dead).scatter(1, some.indices, some.values)
            extra = F.mse_loss(of_dead @ directions[dead], (x - found).detach())
            extra = extra * (AUXILIARY_WEIGHT if revival == "auxiliary_k" else 1)
        with torch.no_grad():
            self.firings += (kept != 0).sum(0)
            self.rows += len(x)
        return loss, extra, int(dead.sum())


def train(pre_bias, revival):
    model = Autoencoder(pre_bias)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.999), eps=1e-8)
    curve = []
    for step in range(STEPS):
        loss, extra, dead = model.losses(batch(step), active(step), revival)
        optimizer.zero_grad()
        (loss + extra).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / WARMUP)
        optimizer.step()
        curve.append((loss.item(), extra.item(), norm.item(), dead))
    loss, extra, norm, dead = (np.array(column) for column in zip(*curve))
    return {"losses": loss[None], "revival_losses": extra[None], "gradient_norms": norm[None],
            "dead": dead[None].astype(np.int32), "encoder": model.encoder.detach().numpy(),
            "decoder": model.decoder.detach().numpy(), "encoder_bias": model.encoder_bias.detach().numpy()[None],
            "decoder_bias": model.decoder_bias.detach().numpy()[None]}


def write(path):
    runs = {"ghost": train(False, "ghost"), "auxiliary": train(True, "auxiliary_k")}
    safetensors.write(path, {f"{run}.{name}": values for run, tensors in runs.items() for name, values in tensors.items()})
