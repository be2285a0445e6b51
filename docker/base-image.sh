#!/usr/bin/env bash
# Makes the Python base image that the example and the tests build from: python:3.11-slim-bookworm
# where it can be pulled, else the like of it from Debian's own packages.
#
#   docker/base-image.sh [NAME]        default: local/python:3.11-bookworm
#
# Safe to run again: the slow part is kept as an image of its own, the rest comes from docker's cache.
set -euo pipefail

name=${1:-local/python:3.11-bookworm}
official=python:3.11-slim-bookworm
raw=local/python-plain:3.11-bookworm
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/debian.sh
. "$here/debian.sh"

die() { echo "base image: $*" >&2; exit 1; }
lap() { echo "base image: $1 ($((SECONDS - t0)) s)" >&2; t0=$SECONDS; }
t0=$SECONDS

docker version >/dev/null 2>&1 || die "no Docker engine answers; start one, or set DOCKER_HOST"
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

python() {
  [ "$(id -u)" = 0 ] || die "$official cannot be pulled, and building one with debootstrap needs root"
  command -v debootstrap >/dev/null || die "$official cannot be pulled, and debootstrap is not installed"
  local root=$work/root
  bootstrap "$root" ca-certificates,python3,python3-pip,python3-venv "$work/log" || die "debootstrap failed"
  lap "Debian $suite with Python from packages"
  # As in the official image: `python` is there, and pip may install into the system.
  ln -sf python3 "$root/usr/bin/python"
  rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
  rm -rf "$root"/usr/lib/python3*/test
  tar -C "$root" -c . | docker import --change 'CMD ["python3"]' - "$raw" >/dev/null
  lap "imported as $raw"
}

if docker image inspect "$raw" >/dev/null 2>&1; then
  :
elif timeout 120 docker pull -q "$official" >/dev/null 2>&1; then
  docker tag "$official" "$raw"
  lap "pulled $official"
else
  lap "$official cannot be pulled"
  python
fi

# The host's certificates go in, since a machine behind a TLS proxy needs them for `pip install`.
context=$work/context
mkdir "$context"
[ -r $bundle ] || die "$bundle is missing (package ca-certificates)"
cp $bundle "$context/ca-certificates.crt"
install -m 755 "$here/aws-lambda-rie.py" "$context/aws-lambda-rie"
cat >"$context/Dockerfile" <<DOCKERFILE
FROM $raw
COPY ca-certificates.crt $bundle
COPY aws-lambda-rie /usr/local/bin/aws-lambda-rie
ENV PIP_CERT=$bundle SSL_CERT_FILE=$bundle LANG=C.UTF-8
DOCKERFILE
DOCKER_BUILDKIT=0 docker build -q -t "$name" "$context" >"$work/build" 2>&1 ||
  { cat "$work/build" >&2; die "docker build failed"; }
lap "$name is ready"
