"""What LeNet must compute: logits, features, the gradient of the loss and Adam's curve, in double precision."""
import numpy as np
import torch
import torch.nn.functional as F

import generator
import safetensors

ROWS, COLS, CLASSES, IMAGES = 14, 12, 4, 70
SHAPES = {
    "feature_extractor.0.weight": (3, 1, 3, 3),
    "feature_extractor.0.bias": (3,),
    "feature_extractor.3.weight": (5, 3, 3, 3),
    "feature_extractor.3.bias": (5,),
    "classifier.weight": (CLASSES, 10),
    "classifier.bias": (CLASSES,),
}
ADAM_STEPS = 10


def features(weights, images):
    x = images
    for layer in ("feature_extractor.0", "feature_extractor.3"):
        x = F.max_pool2d(F.relu(F.conv2d(x, weights[layer + ".weight"], weights[layer + ".bias"])), 2)
    return x.flatten(1)


def logits(weights, images):
    return F.linear(features(weights, images), weights["classifier.weight"], weights["classifier.bias"])


def write(path):
    start = {name: generator.uniform(100 + i, shape, 1.0) for i, (name, shape) in enumerate(SHAPES.items())}
    weights = {name: torch.from_numpy(values).double().requires_grad_() for name, values in start.items()}
    images = torch.from_numpy(generator.uniform(99, (IMAGES, 1, ROWS, COLS), 4.0)).double()
    labels = torch.arange(IMAGES) * 7 % CLASSES

    with torch.no_grad():
        values = dict(start, labels=labels.int().numpy(), features=features(weights, images).numpy(),
                      logits=logits(weights, images).numpy())
    optimizer = torch.optim.Adam(weights.values(), lr=0.01)
    curve = []
    for step in range(ADAM_STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(logits(weights, images), labels)
        loss.backward()
        if step == 0:
            values["gradient"] = torch.cat([w.grad.flatten() for w in weights.values()]).numpy()
        curve.append(loss.item())
        optimizer.step()
    values["adam"] = np.array(curve)
    safetensors.write(path, values)
