#!/bin/sh
# Installs the Debian packages that are missing, saying which and why. Nothing happens when all are there.
# usage: deps.sh [browser]   browser: what the dashboard's specs need, instead of what pyoco-host needs
set -eu

# package            why
packages="
gcc                  C compiler
make                 runs the build
pkg-config           finds the libraries
liblua5.4-dev        Lua 5.4, the language of everything that you may change
lua5.4               runs luacheck
libnats-dev          NATS client
nats-server          the queue and the store (JetStream)
libcivetweb-dev      HTTP server
libcjson-dev         JSON
libyaml-dev          YAML
libssl-dev           hashes and random numbers
libcurl4-openssl-dev HTTP client
libsqlite3-dev       the gateway's indexed copy of the runs: lists, search, counts
libarchive-dev       wheels: zip archives
libuv1-dev           event loop and child processes
lua-luv-dev          libuv for Lua
lua-argparse         command lines
lua-busted           test runner
lua-check            linter
"
if [ "${1:-}" = browser ]; then
  packages="
chromium             the browser of the dashboard's specs
fonts-noto-cjk       its Japanese
"
  command -v npm >/dev/null 2>&1 || packages="$packages
nodejs               drives the browser
npm                  brings playwright-core and axe-core
"
fi

missing=
for name in $(echo "$packages" | awk 'NF {print $1}'); do
  dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing="$missing $name"
done
[ -n "$missing" ] || exit 0

echo "Installing what pyoco-host needs from Debian:"
for name in $missing; do
  echo "$packages" | awk -v n="$name" '$1 == n {sub(/^[^ ]+ +/, ""); printf "  %-20s %s\n", n, $0}'
done

if [ "$(id -u)" -eq 0 ]; then
  sudo=
elif command -v sudo >/dev/null 2>&1; then
  sudo=sudo
else
  echo "Not root and no sudo here. Run as root: apt-get install -y$missing" >&2
  exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $sudo apt-get update -qq &&
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
  cat "$log" >&2
  echo "apt-get failed (above). Mend that, or install by hand: apt-get install -y$missing" >&2
  exit 1
fi
