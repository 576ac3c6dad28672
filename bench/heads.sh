#!/usr/bin/env bash
# Local heads beside torch, which trains all heads of a batch in one baddbmm. Usage: bench/heads.sh [REPETITIONS]
set -euo pipefail
cd "$(dirname "$0")/.."
for part in common setup; do
  # shellcheck source=/dev/null
  source "scripts/$part.sh"
done
quietly cmake --build --preset release --target bench_heads
need_packages peers
need_venv bench/requirements.txt
.venv/bin/python bench/heads.py "$@"
