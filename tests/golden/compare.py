#!/usr/bin/env python3
"""compare.py COMMITTED FRESH: every fresh file must equal its committed namesake. Exits 1 on a difference.

Models byte for byte; golden values within 1e-5 of a tensor's largest magnitude, integers exactly.
"""
import pathlib
import sys

import numpy as np

import safetensors

TOLERANCE = 1e-5


def differences(committed, fresh):
    """Yields what is different between two safetensors files."""
    if committed.keys() != fresh.keys():
        yield f"other tensors: {sorted(committed.keys() ^ fresh.keys())}"
        return
    for name, want in committed.items():
        have = fresh[name]
        if want.shape != have.shape or want.dtype != have.dtype:
            yield f"{name} is {have.dtype}{have.shape}, committed is {want.dtype}{want.shape}"
        elif want.dtype.kind == "i":
            if not np.array_equal(want, have):
                yield f"{name} differs"
        else:
            error = np.abs(want.astype(float) - have).max() / np.abs(want).max()
            if not error <= TOLERANCE:
                yield f"{name} differs by {error:.1e} of its largest magnitude, more than {TOLERANCE}"


def main():
    committed, fresh = map(pathlib.Path, sys.argv[1:])
    failures = 0
    for path in sorted(path for path in fresh.glob("**/*") if path.is_file()):
        name = path.relative_to(fresh)
        if not (committed / name).exists():
            found = ["is not committed"]
        elif path.suffix == ".safetensors":
            found = list(differences(safetensors.read(committed / name), safetensors.read(path)))
        else:
            found = [] if path.read_bytes() == (committed / name).read_bytes() else ["other bytes"]
        print(f"{name}: {'; '.join(found) or 'same'}")
        failures += len(found)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
