#!/usr/bin/env bash
# Exact search beside FAISS's, then a large approximate index on real embeddings.
# Usage: bench/neighbours.sh [exact|FILE.npy|random] [ivf|hnsw] [POINTS]. `exact` leaves the large index out. Without a
# file, MiniLM's vectors of 100 500 pieces of the text below /usr/share/doc and /usr/lib/python3* are made first and kept
# in the build folder; fewer pieces make fewer points.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh
quietly cmake --build --preset release --target bench_neighbours hone_cli
build/bench_neighbours exact
[[ ${1-} != exact ]] || exit 0
[[ -z ${1-} || $1 == random || -f $1 ]] || die "there is no file $1"
vectors=${1:-build/minilm.npy}
if [[ $vectors != random && ! -f $vectors ]]; then
  texts=$(mktemp --suffix=.txt)
  trap 'rm -f "$texts"' EXIT
  # Pieces of about 60 words, a line each, none twice.
  find /usr/share/doc /usr/lib/python3* -type f \( -name '*.py' -o -name '*.txt' -o -name '*.md' -o -name 'copyright' \
    -o -name 'README*' -o -name '*.gz' \) -print0 | sort -z | xargs -0 zcat -f 2>/dev/null | iconv -c -t utf-8 |
    tr -s '[:space:]' ' ' | fold -s -w 360 | awk 'length > 100 && !seen[$0]++' | shuf --random-source=<(yes) |
    head -n 100500 >"$texts" || true
  build/hone embed "$(build/hone model get minilm)" "$texts" --max-tokens 64 -o "$vectors"
fi
build/bench_neighbours large "$vectors" "${2:-ivf}" "${3:-1000000}"
