#!/usr/bin/env bash
# Builds what is committed, for each of PLATFORMS, into the folder $1, with the sums. It builds twice, in two folders, the
# second time without anything that was compiled before: unless both are the same to the byte, there is no release. Whoever
# has the commit and the same Go can so see that a binary is what it says.
set -euo pipefail
cd "$(dirname "$0")/.."
platforms=${PLATFORMS:-linux-amd64 linux-arm64 darwin-amd64 darwin-arm64}
out=$(realpath -m "$1")
commit=$(git rev-parse HEAD)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build FOLDER: clone the commit into it and build it.
build() {
  git clone --quiet --no-checkout . "$work/$1"
  cd "$work/$1"
  git checkout --quiet --detach "$commit"
  for platform in $platforms; do
    CGO_ENABLED=0 GOOS=${platform%-*} GOARCH=${platform#*-} \
      go build -trimpath -buildvcs=true -ldflags=-s -o "$work/$1.out/outrider-$platform" ./cmd/outrider
  done
  cd "$work/$1.out"
  sha256sum outrider-* >SHA256SUMS
}

(build one)
(export GOCACHE="$work/cache"; build a-folder-of-another-name)
if ! diff "$work/one.out/SHA256SUMS" "$work/a-folder-of-another-name.out/SHA256SUMS"; then
  echo "The build is not reproducible: two of the same commit differ." >&2
  exit 1
fi
mkdir -p "$out"
cp "$work/one.out"/* "$out"
cat "$out/SHA256SUMS"
