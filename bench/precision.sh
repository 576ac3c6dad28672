#!/usr/bin/env bash
# How much of fp32's gain int8 keeps, each with gradients of its own, on files of Python's standard library that are not
# indexed, a window each: the ratio of mean gains, with a bootstrap interval over windows. Usage: bench/precision.sh [FILES]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh
# shellcheck source=scripts/demo.sh
source scripts/demo.sh
# shellcheck source=scripts/corpora.sh
source scripts/corpora.sh
files=${1:-36}
out=build/bench/precision
mkdir -p $out
model=$(build/hone model get smollm2)
python_library $out
mapfile -t held < <(head -n "$files" $out/stdlib.held)
mapfile -t indexed <$out/stdlib.indexed

evaluate() { # PRECISION
  build/hone eval "$model" --store "$out/$1.hone" --no-published --precision "$1" --json "${held[@]}" >"$out/$1.json"
}

for precision in fp32 int8; do
  step "index ${#indexed[@]} files in $precision" \
    build/hone index "$model" "${indexed[@]}" -o $out/$precision.hone --precision $precision --quiet
  step "evaluate ${#held[@]} files in $precision" evaluate $precision
done
/usr/bin/python3 - $out/fp32.json $out/int8.json <<'PYTHON'
import json, random, sys

fp32, int8 = (json.load(open(path))["tables"] for path in sys.argv[1:])

def gains(table, name):
    bits = {row["name"]: row["bits"] for row in table["rows"]}
    return [1 - mine / base for mine, base in zip(bits[name], bits["base"])]

for exact, fast in zip(fp32, int8):
    print(f"\nneighbours: {exact['neighbours']}\n{'':24}{'fp32, %':>9}{'int8, %':>9}{'int8/fp32':>11}   95 %")
    for name in ("one-step", "mixture", "mixture-with-context"):
        pairs = list(zip(gains(exact, name), gains(fast, name)))
        draws = random.Random(0)
        resampled = sorted(sum(p[1] for p in some) / sum(p[0] for p in some)
                           for some in (draws.choices(pairs, k=len(pairs)) for _ in range(10000)))
        means = [100 * sum(column) / len(pairs) for column in zip(*pairs)]
        print(f"{name:24}{means[0]:9.2f}{means[1]:9.2f}{means[1] / means[0]:11.3f}   "
              f"[{resampled[249]:.3f}, {resampled[9749]:.3f}]")
PYTHON
