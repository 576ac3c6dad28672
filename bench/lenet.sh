#!/usr/bin/env bash
# What one step of training costs at each width of LeNet, on one thread. Usage: bench/lenet.sh
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh
quietly cmake --build --preset release --target bench_lenet
build/bench_lenet
