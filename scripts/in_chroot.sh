#!/usr/bin/env bash
# Runs a shell command in the checkout inside the system at ROOT; `./dev fresh` uses it, in namespaces of its own.
# Usage: scripts/in_chroot.sh ROOT DATA COMMAND
set -euo pipefail
root=$1 data=$2 command=$3
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
mountpoint -q "$root/dev/shm" || mount -t tmpfs tmpfs "$root/dev/shm"
if [[ -d $data ]] && ! mountpoint -q "$root/srv/shared/data"; then
  mkdir -p "$root/srv/shared/data"
  mount --bind "$data" "$root/srv/shared/data"
  mount -o remount,bind,ro "$root/srv/shared/data"
fi
exec chroot "$root" /bin/bash -c "cd /srv/hone && $command"
