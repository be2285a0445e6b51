#!/usr/bin/env bash
# Makes an image with windlass, for CodeBuild projects and Jenkins agents: Debian, Git, the certificates, windlass, and a user
# who is not root. Stands on debian:bookworm-slim where that can be pulled, else on the like of it from Debian's own packages.
#
#   docker/image.sh [--program FILE] [NAME]        default: target/release/windlass, built first, as windlass:local
#
# Safe to run again: the base is kept as an image of its own. What a build needs beside it (Node, Python) goes into an image that
# stands on this one.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/debian.sh
. "$here/debian.sh"
official=debian:bookworm-slim
raw=local/debian-git:bookworm
program=
name=windlass:local

die() { echo "windlass image: $*" >&2; exit 1; }
lap() { echo "windlass image: $1 ($((SECONDS - t0)) s)" >&2; t0=$SECONDS; }
t0=$SECONDS

while [ $# != 0 ]; do
  case $1 in
    --program) program=${2:?--program needs a file}; shift 2 ;;
    -*) die "unknown option $1; see the head of $0" ;;
    *) name=$1; shift ;;
  esac
done

docker version >/dev/null 2>&1 || die "no Docker engine answers; start one, or set DOCKER_HOST"
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

if [ -z "$program" ]; then
  (cd "$here/.." && cargo build --release --locked --quiet)
  program=${CARGO_TARGET_DIR:-$here/../target}/release/windlass
  lap "built $program"
fi
[ -x "$program" ] || die "$program is no program"

plain() {
  [ "$(id -u)" = 0 ] || die "$official cannot be pulled, and building one with debootstrap needs root"
  command -v debootstrap >/dev/null || die "$official cannot be pulled, and debootstrap is not installed"
  bootstrap "$work/root" ca-certificates,git "$work/log" || die "debootstrap failed"
  lap "Debian $suite from packages"
  tar -C "$work/root" -c . | docker import - "$raw" >/dev/null
  lap "imported as $raw"
}

slim() {
  timeout 120 docker pull -q "$official" >/dev/null 2>&1 || return 1
  printf 'FROM %s\nRUN apt-get update -q && apt-get install -q -y --no-install-recommends ca-certificates git && %s\n' \
    "$official" 'rm -rf /var/lib/apt/lists/*' | DOCKER_BUILDKIT=0 docker build -q -t "$raw" - >/dev/null
  lap "$official with Git"
}

docker image inspect "$raw" >/dev/null 2>&1 || slim || plain

context=$work/context
mkdir "$context"
install -m 755 "$program" "$context/windlass"
# What a debugger would need is most of a program that was built for one.
! command -v strip >/dev/null || strip "$context/windlass"
# A machine behind a TLS proxy trusts more than Debian does.
[ -r $bundle ] || die "$bundle is missing (package ca-certificates)"
cp $bundle "$context/ca-certificates.crt"
# Jenkins runs its steps as a user of its own, who has to find a home that can be written to.
cat >"$context/Dockerfile" <<DOCKERFILE
FROM $raw
COPY ca-certificates.crt $bundle
COPY windlass /usr/local/bin/windlass
RUN windlass --version && useradd --create-home --uid 1000 windlass && chmod 1777 /home/windlass
ENV HOME=/home/windlass LANG=C.UTF-8 SSL_CERT_FILE=$bundle
USER windlass
WORKDIR /home/windlass
CMD ["bash"]
DOCKERFILE
DOCKER_BUILDKIT=0 docker build -q -t "$name" "$context" >"$work/build" 2>&1 || { cat "$work/build" >&2; die "docker build failed"; }
lap "$name is ready, $(docker image inspect --format '{{.Size}}' "$name" | awk '{ printf "%d MB", $1 / 1e6 }')"
