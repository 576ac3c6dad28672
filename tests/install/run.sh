#!/usr/bin/env bash
# Installs hone from a build directory into a temporary prefix, moves the prefix, and builds and runs a consumer of it.
# Usage: tests/install/run.sh BUILD_DIR
set -euo pipefail
build=$(realpath "${1:?usage: tests/install/run.sh BUILD_DIR}")
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/first" >"$work/install.log"
mv "$work/first" "$work/prefix"  # a package must not care where it lies

checkout=$(realpath "$here/../..")
if grep -rF --include='*.cmake' -e "$build" -e "$checkout/" -e "$work/first" "$work/prefix"; then
  echo "the installed package names folders of this build" >&2
  exit 1
fi
cmake -G Ninja -S "$here" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/configure.log" || {
  cat "$work/configure.log" >&2
  exit 1
}
cmake --build "$work/build"
"$work/build/consumer"
"$work/prefix/bin/hone" --version
