# shellcheck shell=bash
# Installing what is missing: Debian packages and the Python peers of tests and benches. Read by ./dev, not run.

# need_packages GROUP...: installs the packages of these groups of packages.txt that are not there.
need_packages() {
  command -v dpkg-query >/dev/null || die "./dev sets up Debian bookworm only; packages.txt says what hone needs"
  local group package missing=()
  while read -r group package; do
    [[ " $* " == *" $group "* ]] || continue
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done < <(grep -v '^#' packages.txt)
  [[ ${#missing[@]} -eq 0 ]] || install_packages "${missing[@]}"
}

install_packages() {
  local as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      as_root=(sudo -n)
    else
      printf 'dev: these Debian packages are missing, and installing them needs root. Run as root:\n\n' >&2
      printf '  apt-get update && apt-get install -y --no-install-recommends %s\n\n' "$*" >&2
      exit 1
    fi
  fi
  # DPkg::Lock::Timeout: waits for another package manager instead of failing.
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
  step "package lists" quietly "${apt[@]}" update
  step "install from Debian: $*" quietly "${apt[@]}" install --no-install-recommends "$@"
}

# need_venv REQUIREMENTS [PIP_OPTION...]: .venv with these Python packages in it; nothing outside it is touched.
need_venv() {
  local requirements=$1 stamp
  shift
  stamp=.venv/installed-$(sha256sum "$requirements" | cut -c 1-16)
  [[ ! -e $stamp ]] || return 0
  if [[ ! -e .venv/created ]]; then
    step "Python environment in .venv" /usr/bin/python3 -m venv --clear .venv
    touch .venv/created
  fi
  step "install $requirements into .venv" quietly .venv/bin/python -m pip install "$@" -r "$requirements"
  touch "$stamp"
}
