#!/usr/bin/env bash
# What a decision costs once its kernels are there, beside the time it may take. Usage: bench/decide.sh
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh
quietly cmake --build --preset release --target bench_decide
build/bench_decide
