#!/bin/sh
# Makes the tiny models and all golden values afresh and compares them with the committed ones (tolerance: compare.py).
# Needs numpy and torch in $PYTHON (default /usr/bin/python3). A real model that is absent is left out, with a message.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-/usr/bin/python3}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hone
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
export PYTHONDONTWRITEBYTECODE=1

present() {
  if [ -e "$cache/$1" ]; then
    echo "$cache/$1"
  else
    echo "needs $cache/$1: absent, its golden values are not checked" >&2
    echo -
  fi
}

"$python" "$here/make.py" -o "$fresh" --arrays --models --tiny \
  --real "$(present SmolLM2-135M-Instruct.Q4_1.gguf)" "$(present gemma-3-270m-q4_k_m.gguf)" \
  "$(present all-MiniLM-L6-v2)"
"$python" "$here/compare.py" "$here" "$fresh"
