# shellcheck shell=bash
# ./dev fresh: both README commands inside an empty Debian bookworm, so that nothing left on this machine can hide a
# missing step. Carried over: apt sources and Acquire settings, certificates, pip's configuration, name resolution, this
# checkout as git tracks it, and the tests' data. Read by ./dev, not run.

fresh_root=            # the system's folder while it exists
fresh_child=           # the process that runs inside
fresh_environment=()   # NAME=value for every command inside

fresh() {
  [[ $(id -u) -eq 0 ]] || die "fresh makes a whole system in a folder and changes its root to it: run it as root"
  need_packages fresh
  trap 'exit 130' INT TERM HUP
  trap fresh_remove EXIT
  fresh_root=$(mktemp -d "${TMPDIR:-/var/tmp}/hone-fresh.XXXXXX")
  chmod 755 "$fresh_root"
  local times=() command start
  step "empty bookworm in $fresh_root" fresh_create
  step "settings" fresh_settings
  step "checkout" fresh_checkout
  for command in demo test; do
    start=$SECONDS
    say "inside: ./dev $command"
    fresh_run "./dev $command"
    times+=("./dev $command: $(duration $((SECONDS - start)))")
  done
  say "passed in an empty bookworm"
  printf '%s\n' "${times[@]}"
}

fresh_create() {
  local sources="$fresh_root.list" settings="$fresh_root.conf"
  # shellcheck disable=SC2016  # the fields are apt's, not the shell's
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u |
    awk '$2 ~ /^bookworm(-updates|-security)?$/ && $3 ~ /^(main|contrib|non-free|non-free-firmware)$/ { print "deb", $0 }' >"$sources"
  [[ -s $sources ]] || die "no source of Debian bookworm in this machine's /etc/apt"
  cat "$sources"
  apt-config dump | grep '^Acquire::' >"$settings" || true
  # ca-certificates is in before this machine's certificates are laid over it, or installing it would undo that.
  quietly mmdebstrap --variant=apt --include=ca-certificates --aptopt="$settings" bookworm "$fresh_root" "$sources"
  rm -f "$sources" "$settings"
}

fresh_settings() {
  local path
  for path in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/xdg/pip ~/.config/pip ~/.pip /usr/share/ca-certificates \
    /usr/local/share/ca-certificates /etc/ssl/certs; do
    [[ ! -e $path ]] || fresh_copy "$path"
  done
  # Files that apt's settings name: a certificate, a script that finds the proxy.
  while read -r path; do
    [[ ! -f $path ]] || fresh_copy "$path"
  done < <(apt-config dump | sed -n 's|^Acquire::.* "\(/.*\)";$|\1|p')

  fresh_environment=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8)
  local name value
  while IFS='=' read -r -d '' name value; do
    [[ $name =~ ^(PIP_.*|.*_PROXY|.*_proxy|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE)$ ]] || continue
    if [[ $value == /* && -f $value ]]; then
      fresh_copy "$value"
    elif [[ $value == /* && ! -e $fresh_root$value ]]; then
      echo "left out: $name, which names a folder of this machine"
      continue
    fi
    fresh_environment+=("$name=$value")
    echo "carried over: $name"
  done < <(env -0)
}

# A file or a folder, to the same path inside.
fresh_copy() {
  local to=$fresh_root$1
  if [[ -d $1 ]]; then
    mkdir -p "$to"
    cp -a --remove-destination "$1/." "$to/"
  else
    mkdir -p "$(dirname "$to")"
    cp -L --remove-destination "$1" "$to"
  fi
}

fresh_checkout() {
  local to=$fresh_root/srv/hone changed untracked
  [[ -n $(git ls-files) ]] || die "git tracks no file here: commit, or git add, what is to be tested"
  changed=$(git status --short --untracked-files=no)
  untracked=$(git ls-files --others --exclude-standard | wc -l)
  echo "commit $(git rev-parse --short --verify --quiet HEAD || echo none)${changed:+ and these changes that are not committed:}"
  [[ -z $changed ]] || echo "$changed"
  [[ $untracked -eq 0 ]] || echo "left out: $untracked files that git does not track"
  mkdir -p "$to"
  git ls-files -z --deduplicate | while IFS= read -r -d '' file; do
    [[ ! -e $file && ! -L $file ]] || printf '%s\0' "$file"
  done | tar -c --null -T - | tar -x -C "$to" --no-same-owner
}

# Runs one shell command in the copied checkout, in mount and process namespaces of its own where the kernel allows it.
fresh_run() {
  local isolate=() data status=0
  data=$(realpath -m "${HONE_DATA:-../shared/data}")
  unshare --mount --pid --fork true 2>/dev/null && isolate=(unshare --mount --pid --fork --kill-child)
  env -i "${fresh_environment[@]}" "${isolate[@]}" bash scripts/in_chroot.sh "$fresh_root" "$data" "$1" &
  fresh_child=$!
  wait "$fresh_child" || status=$?
  fresh_child=
  [[ $status -eq 0 ]] || die "inside the empty bookworm, $1 failed with exit code $status"
}

fresh_remove() {
  local mounted
  if [[ -n $fresh_child ]]; then
    kill -KILL "$fresh_child" 2>/dev/null || true
    wait "$fresh_child" 2>/dev/null || true
  fi
  [[ -n $fresh_root ]] || return 0
  rm -f "$fresh_root.list" "$fresh_root.conf"
  while read -r mounted; do
    umount "$mounted" || umount --lazy "$mounted" || true
  done < <(awk -v root="$fresh_root/" 'index($5, root) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
  if grep -qF " $fresh_root/" /proc/self/mountinfo; then
    echo "dev: still mounted below $fresh_root, so it is left as it is" >&2
  else
    rm -rf --one-file-system "$fresh_root"
  fi
}
