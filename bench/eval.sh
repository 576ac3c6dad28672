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
precision=${1:-int8}
out=build/bench
mkdir -p $out
need_packages bench
model=$(build/hone model get smollm2)

# Every third of the files long enough is held out, every other file of the list is indexed.
split_files() { # LIST_OF_LONG LIST_OF_ALL NAME
  awk 'NR % 3 == 2' "$1" >"$out/$3.held"
  grep -vxFf "$out/$3.held" "$2" >"$out/$3.indexed"
}

python_library() {
  local library
  library=$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  library_files "$library" 9000 >$out/long
  library_files "$library" 4000 >$out/all
  split_files $out/long $out/all stdlib
}

linux_documentation() {
  local from=/usr/share/doc/linux-doc-6.1/Documentation to=$out/linux-doc file
  mkdir -p $to
  while read -r file; do
    gzip -dc "$file" >"$to/$(sed "s|^$from/||; s|/|-|g; s|\.gz$||" <<<"$file")"
  done < <(find $from -name '*.rst.gz' \( -path '*/admin-guide/*' -o -path '*/process/*' -o -path '*/filesystems/*' \
    -o -path '*/networking/*' -o -path '*/core-api/*' -o -path '*/driver-api/*' -o -path '*/userspace-api/*' \) | LC_ALL=C sort)
  find $to -type f -size +8000c | LC_ALL=C sort >$out/long
  find $to -type f | LC_ALL=C sort >$out/all
  split_files $out/long $out/all linux-doc
}

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
python_library
linux_documentation
measure stdlib 2 80
measure linux-doc 1 90
measure stdlib 1 30 --protocol score
