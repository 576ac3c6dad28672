#!/usr/bin/env bash
# What an answer of `hone complete` takes: seconds from the open model to the first token, with no gradient stored (cold)
# and with all that it needs (warm, median), tokens a second, alone and beside the base's in the same process, and the
# most memory that a run held before the base's turn. As in the demo, the prompt is the beginning of a file of Python's
# standard library, and the store holds the library without that file.
# Usage: bench/complete.sh [WARM_RUNS]. Writes build/bench/complete/; the store there is used again.
set -euo pipefail
cd "$(dirname "$0")/.."
for part in common demo; do
  # shellcheck source=/dev/null
  source "scripts/$part.sh"
done
runs=${1:-3}
[[ $runs =~ ^[1-9][0-9]*$ ]] || die "'$runs' is no number of runs"
out=build/bench/complete
store=$out/stdlib.hone
mkdir -p $out
model=$(build/hone model get smollm2)
held_out=() indexed=()
choose_files
prompt=$(beginning "${held_out[0]}")
step "index ${#indexed[@]} files of Python's standard library" \
  build/hone index "$model" "${indexed[@]}" -o $store --precision int8 --quiet

# Run 0 is cold.
complete_all() { # PRECISION
  local run
  rm -rf $store/gradients
  for ((run = 0; run <= runs; ++run)); do
    build/hone complete "$model" "$prompt" --store $store --precision "$1" --base --json >"$out/$1-$run.json"
  done
}

for precision in int8 fp32; do
  step "complete the beginning of ${held_out[0]}, $precision, $runs warm runs" complete_all $precision
done
/usr/bin/python3 - $out "$runs" <<'PYTHON'
import json
import pathlib
import statistics
import sys

folder, runs = pathlib.Path(sys.argv[1]), int(sys.argv[2])
print(f"\n{'precision':9} {'cold s':>7} {'warm s':>7} {'tokens/s':>9} {'of base':>8} {'peak MiB':>8}")
for precision in ("int8", "fp32"):
    answers = [json.loads((folder / f"{precision}-{run}.json").read_text()) for run in range(runs + 1)]
    cold, *warm = answers
    if cold["hone"]["gradients_computed"] == 0 or any(answer["hone"]["gradients_computed"] for answer in warm):
        sys.exit(f"{precision}: the first run must compute gradients, the others none")
    first = statistics.median(answer["seconds_to_first_token"] for answer in warm)
    speed = statistics.median(answer["tokens_per_second"] for answer in warm)
    share = statistics.median(answer["tokens_per_second"] / answer["base"]["tokens_per_second"] for answer in warm)
    peak = max(answer["peak_rss_mb"] for answer in answers)
    print(f"{precision:9} {cold['seconds_to_first_token']:7.2f} {first:7.2f} {speed:9.1f} {share:8.2f} {peak:8.0f}")
PYTHON
