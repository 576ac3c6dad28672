#!/usr/bin/env bash
# Few-shot answers with known labels, in-context against hone: SST-2 and CLINC150, SmolLM2 and gemma3.
# Usage: bench/fewshot.sh [SIZE] [SET...] with SIZE quick, standard or full, SETs sst2 and clinc150.
# Reads $HONE_DATA, else ../shared/data. Goes on where it was interrupted. Writes build/bench/few-shot-SET-MODEL-SIZE/.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh
size=${1:-standard}
[[ $size == quick || $size == standard || $size == full ]] || die "'$size' is not quick, standard or full"
shift $(($# > 0 ? 1 : 0))
sets=("$@")
((${#sets[@]} > 0)) || sets=(sst2 clinc150)
HONE_DATA=$(realpath -m "${HONE_DATA:-../shared/data}")
export HONE_DATA
options=()
[[ $size == standard ]] || options=("--$size")
mkdir -p build/bench
for set in "${sets[@]}"; do
  for model in smollm2 gemma3; do
    file=$(build/hone model get $model)
    step "few-shot-$set, $model, $size" \
      build/hone lab run "few-shot-$set" --model "$file" "${options[@]}" -o "build/bench/few-shot-$set-$model-$size"
  done
done
