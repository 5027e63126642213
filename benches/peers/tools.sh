#!/usr/bin/env bash
# Installs what heirloom is compared with, the newest that crates.io, PyPI and Debian give, below DIR (target/peers). What cannot be installed is said, and left out.
set -uo pipefail
dir=${1:-$(dirname "$0")/../../target/peers}
mkdir -p "$dir/bin"
dir=$(realpath "$dir")
log=$dir/install.log

attempt() {
    local name=$1
    shift
    [ -x "$dir/bin/$name" ] && { echo "$name: there"; return; }
    if "$@" >>"$log" 2>&1 && [ -x "$dir/bin/$name" ]; then echo "$name: installed"; else echo "$name: CANNOT BE INSTALLED, see $log"; fi
}

# Debian's newest package holds a static binary, which runs on older releases too.
restic() {
    local work=$dir/debian
    mkdir -p "$work/lists/partial" "$work/archives/partial"
    echo "deb [trusted=yes] http://deb.debian.org/debian sid main" >"$work/sources.list"
    local options=(-o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$work/lists" -o APT::Sandbox::User=root)
    (cd "$work" && apt-get "${options[@]}" update -qq && apt-get "${options[@]}" download -qq restic && dpkg-deb -x restic_*.deb .) &&
        cp "$work/usr/bin/restic" "$dir/bin/restic"
}

rustic() { cargo install --locked --root "$dir" rustic-rs; }

bupstash() {
    dpkg -s libsodium-dev pkg-config >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq libsodium-dev pkg-config; }
    cargo install --locked --root "$dir" bupstash
}

borg() {
    dpkg -s libacl1-dev libssl-dev liblz4-dev libzstd-dev libxxhash-dev python3-dev pkg-config >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -y -qq libacl1-dev libssl-dev liblz4-dev libzstd-dev libxxhash-dev python3-dev pkg-config; }
    python3 -m venv "$dir/borg" && "$dir/borg/bin/pip" install --quiet borgbackup && ln -sf "$dir/borg/bin/borg" "$dir/bin/borg"
}

zstd() {
    command -v zstd >/dev/null || { apt-get update -qq && apt-get install -y -qq zstd; }
    ln -sf "$(command -v zstd)" "$dir/bin/zstd"
}

for name in zstd restic borg bupstash rustic; do attempt "$name" "$name"; done
