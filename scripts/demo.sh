# shellcheck shell=bash
# ./dev demo: a real model adapted to texts that it has not seen, step by step. Read by ./dev, not run.

demo() {
  local start=$SECONDS model held_out=() indexed=()
  need_packages build
  build_preset release hone_cli
  step "model smollm2" build/hone model get smollm2
  model=$(build/hone model get smollm2 2>/dev/null)
  choose_files
  mkdir -p build/demo
  local store=build/demo/stdlib.hone
  step "index ${#indexed[@]} files of Python's standard library" build/hone index "$model" "${indexed[@]}" -o $store --precision int8
  step "evaluate on ${#held_out[@]} files that are not indexed" \
    build/hone eval "$model" --store $store --precision int8 "${held_out[@]}"
  step "complete the beginning of ${held_out[0]}, which is not indexed" \
    build/hone complete "$model" --store $store --precision int8 --base "$(beginning "${held_out[0]}")"
  say "demo done in $(duration $((SECONDS - start)))"
}

# Sets held_out (eight files, evenly spread over the sorted list of those long enough) and indexed (all the others).
choose_files() {
  local library long i
  library=$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  mapfile -t long < <(library_files "$library" 8000)
  [[ ${#long[@]} -ge 100 ]] || die "$library holds ${#long[@]} files to choose from; the demo needs python3 whole"
  for i in {0..7}; do
    held_out+=("${long[$(((2 * i + 1) * ${#long[@]} / 16))]}")
  done
  mapfile -t indexed < <(library_files "$library" 4000 | grep -vxF -f <(printf '%s\n' "${held_out[@]}"))
}

# library_files LIBRARY SIZE: Python files of more than SIZE bytes, without tests, without what was installed beside the
# library, and without encodings/, whose files are near-copies of one table.
library_files() {
  local library=$1 size=$2
  (cd "$library" && find . -type f -name '*.py' -size "+${size}c" ! -path '*test*' ! -path '*-packages/*' \
    ! -path './encodings/*') |
    sed "s|^\.|$library|" | LC_ALL=C sort
}

# The first lines of a file, about 150 tokens.
beginning() {
  head -c 600 "$1" | sed '$d'
}
