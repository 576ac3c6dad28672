# shellcheck shell=bash
# What every part of ./dev uses: messages and timed steps. Read by ./dev, not run.

say() { printf '\n== %s\n' "$*"; }

die() {
  printf 'dev: %s\n' "$*" >&2
  exit 1
}

# 125 -> "2 min 5 s"
duration() {
  if (($1 < 60)); then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi
}

# step TITLE COMMAND...: announces, runs, and says how long it took.
step() {
  local title=$1 start=$SECONDS
  shift
  say "$title"
  "$@"
  echo "-- $title: $(duration $((SECONDS - start)))"
}

# quietly COMMAND...: its output is shown only if it fails.
quietly() {
  local output
  output=$("$@" 2>&1) || {
    printf '%s\n' "$output" >&2
    return 1
  }
}
