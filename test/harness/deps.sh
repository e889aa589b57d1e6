#!/usr/bin/env bash
# Installs what the tests need beside Go and is missing: Java 17 and Maven (a real Apache Kafka), a C compiler (the race
# detector), Chromium (the status page), psql, kcat and curl (what the documents say to type). Where it may not install, it
# says what to. Arguments command=package name what is needed besides. BROWSERTEST=skip and TOOLTEST=skip do without a Chromium,
# and without psql, kcat and curl: the tests that need them say that they are left out.
set -euo pipefail

# A JVM of at least 17 runs every Kafka that the tests start.
java_is_new_enough() {
  local version
  version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p') || return 1
  [[ -n $version && $version -ge 17 ]]
}

# One of those that harness.StartBrowser looks for.
has_browser() {
  local name
  for name in chromium-headless-shell chromium chromium-browser google-chrome-stable google-chrome; do
    ! command -v "$name" >/dev/null || return 0
  done
  return 1
}

missing=()
java_is_new_enough || missing+=("openjdk-17-jre-headless")
command -v mvn >/dev/null || missing+=("maven")
command -v cc >/dev/null || command -v gcc >/dev/null || missing+=("gcc" "libc6-dev")
[[ ${BROWSERTEST:-} == skip ]] || has_browser || missing+=("chromium-headless-shell")
wanted=("$@")
[[ ${TOOLTEST:-} == skip ]] || wanted+=(psql=postgresql-client kcat=kcat curl=curl)
for need in "${wanted[@]}"; do
  command -v "${need%%=*}" >/dev/null || missing+=("${need#*=}")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "The tests need what is missing here: ${missing[*]} (Debian's names)." >&2
  echo "Install it, for example: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi

export DEBIAN_FRONTEND=noninteractive
# A mirror that is being updated refuses for a moment.
for try in 1 2 3; do
  apt-get -q update && break
  [[ $try -lt 3 ]] || { echo "apt-get update failed three times; the tests need ${missing[*]}" >&2; exit 1; }
  sleep $((try * 5))
done
# A Debian that no longer has Java 17 has a newer one.
if [[ " ${missing[*]} " == *" openjdk-17-jre-headless "* ]] && ! apt-cache show openjdk-17-jre-headless >/dev/null 2>&1; then
  missing=("${missing[@]/openjdk-17-jre-headless/default-jre-headless}")
fi
# Not every Debian has the one that comes without windows.
if [[ " ${missing[*]} " == *" chromium-headless-shell "* ]] && ! apt-cache show chromium-headless-shell >/dev/null 2>&1; then
  missing=("${missing[@]/chromium-headless-shell/chromium}")
fi
apt-get -q install -y --no-install-recommends "${missing[@]}"
