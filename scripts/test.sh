# shellcheck shell=bash
# ./dev test [--all]. Read by ./dev, not run.

run_tests() {
  local start=$SECONDS preset=release
  if [[ ${1-} == --all ]]; then
    need_packages build peers goldens cache
    preset=all
  fi
  build
  step "model smollm2" build/hone model get smollm2
  if [[ $preset == all ]]; then
    step "model gemma3" build/hone model get gemma3
    step "model minilm" build/hone model get minilm
  fi
  step "tests" ctest_preset $preset build
  [[ $preset != all ]] || run_other_tests
  say "$(closing_line build)"
  echo "-- ./dev test${1:+ $1}: $(duration $((SECONDS - start)))"
}

run_other_tests() {
  step "installed package" tests/install/run.sh build
  name_processor_for_openblas
  step "goldens made afresh" tests/golden/check.sh
  need_venv tests/peers/requirements.txt --no-deps
  step "tokenizer peers" .venv/bin/python tests/peers/tokenizer_peer.py build/tests/tokenize_lines
  step "torch's local heads" /usr/bin/python3 tests/peers/mnist_peer.py build/tests/ttt_predictions
  step "torch's local heads, all queries" /usr/bin/python3 tests/peers/mnist_peer.py build/tests/ttt_predictions \
    --net hd25 --queries 10000
  local sanitizer
  for sanitizer in asan tsan; do
    build_preset $sanitizer
    step "tests under $sanitizer" ctest_preset $sanitizer build-$sanitizer
  done
}

# OpenBLAS takes a processor that is newer than itself for one without AVX; torch is three times as slow by that.
name_processor_for_openblas() {
  [[ -z ${OPENBLAS_CORETYPE-} ]] || return 0
  if grep -qw avx512vl /proc/cpuinfo; then
    export OPENBLAS_CORETYPE=SkylakeX
  elif grep -qw avx2 /proc/cpuinfo; then
    export OPENBLAS_CORETYPE=Haswell
  fi
}

# ctest_preset PRESET BUILD_DIR; no tests at all is a failure (noTestsAction in the preset).
ctest_preset() {
  ctest --preset "$1" 2>&1 | tee "$2/ctest.log"
}

# "100% tests passed, 0 tests failed out of 240 (3 skipped)"
closing_line() {
  local skipped
  skipped=$(grep -c '\*\*\*Skipped' "$1/ctest.log" || true)
  grep 'tests passed' "$1/ctest.log" | sed "s/\$/ ($skipped skipped)/"
}
