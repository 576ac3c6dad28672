#!/usr/bin/env bash
# `hone classify` on MiniLM's vectors of CLINC150 (without out-of-scope) and BANKING77, the tables of docs/results.md.
# Usage: bench/classify.sh [fp32|int8] [OPTION of hone classify...]. Reads $HONE_DATA, else ../shared/data.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh
precision=${1:-fp32}
shift $(($# > 0 ? 1 : 0))
data=$(realpath -m "${HONE_DATA:-../shared/data}")
[[ -d $data ]] || die "no data in $data; set HONE_DATA"
minilm=$(build/hone model get minilm)
mkdir -p build/bench/clinc150
/usr/bin/python3 - "$data/clinc150/data_full.json" build/bench/clinc150 <<'PYTHON'
import csv
import json
import sys

with open(sys.argv[1]) as file:
    splits = json.load(file)
for name in ("train", "test"):
    with open(f"{sys.argv[2]}/{name}.csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *splits[name]])
PYTHON
for folder in build/bench/clinc150 "$data/banking77"; do
  step "hone classify, $(basename "$folder"), $precision" \
    build/hone classify --train "$folder/train.csv" --test "$folder/test.csv" --encoder "$minilm" \
    --precision "$precision" --neighbours 20 --experts 1000 "$@"
done
