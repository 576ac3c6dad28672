#!/usr/bin/env bash
# What adapting is worth: Python's standard library (at least 100 windows of files that are not indexed) and Linux's prose
# documentation (at least 60), protocol continue, and the published setting. Usage: bench/eval.sh [PRECISION]
# Writes build/bench/*.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh
# shellcheck source=scripts/setup.sh
source scripts/setup.sh
# shellcheck source=scripts/demo.sh
source scripts/demo.sh
# shellcheck source=scripts/corpora.sh
source scripts/corpora.sh
precision=${1:-int8}
out=build/bench
mkdir -p $out
need_packages bench
model=$(build/hone model get smollm2)

# measure NAME WINDOWS_PER_FILE FILES EVAL_OPTIONS...
measure() {
  local name=$1 windows=$2 files=$3 held indexed
  shift 3
  mapfile -t held < <(head -n "$files" "$out/$name.held")
  mapfile -t indexed <"$out/$name.indexed"
  step "$name: index ${#indexed[@]} files" \
    build/hone index "$model" "${indexed[@]}" -o "$out/$name.hone" --precision "$precision" --quiet
  step "$name: evaluate${*:+ with $*}" \
    build/hone eval "$model" --store "$out/$name.hone" --windows "$windows" --precision "$precision" "$@" "${held[@]}" |
    tee -a "$out/$name.txt"
}

rm -f $out/*.txt
python_library $out
linux_documentation $out
measure stdlib 2 80
measure linux-doc 1 90
measure stdlib 1 30 --protocol score
