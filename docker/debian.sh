# shellcheck shell=bash
# Sourced by the scripts beside it: Debian from its own packages, for where no image can be pulled.

suite=bookworm
bundle=/etc/ssl/certs/ca-certificates.crt

# The machine's own mirror: it may be the only one that can be reached.
# shellcheck disable=SC2016
mirror() {
  apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    awk -v suite=$suite '$1 == suite { print $2; exit }'
}

# bootstrap DIRECTORY PACKAGES LOG: the smallest Debian with these packages (a,b,c), without what no container needs.
bootstrap() {
  local root=$1 packages=$2 log=$3
  # The mirror goes last: without one debootstrap takes its own.
  # shellcheck disable=SC2046
  debootstrap --variant=minbase --include="$packages" $suite "$root" $(mirror) >"$log" 2>&1 || { tail -n 20 "$log" >&2; return 1; }
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/usr/share/{doc,info,locale,man,i18n,zoneinfo/right}
}
