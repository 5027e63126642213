#!/usr/bin/env bash
# Full backups of one simulated phone on days that follow one another, each file under a new key each day: what a repository grows by if they are imported with their
# password (sealed), without it (cipher), unencrypted (plain), or taken from the phone (device); beside it restic. Every export is compared with the folder that was imported.
# Then encryption is switched on between two backups of a phone, and a backup is killed while its contents wait for their keys.
#
#   cargo build --release --workspace && benches/sealed.sh [SIZE] [DAYS] [SEED]
#
# Needs idevicebackup2 (libimobiledevice-utils) and GNU time; RESTIC names restic, if it is to be beside it. BIN names the folder of the programs, if not target/release.
set -euo pipefail
size=${1:-200M} days=${2:-4} seed=${3:-31}
bin=$(realpath "${BIN:-target/release}") restic=${RESTIC:-$(command -v restic || true)}
scratch=$(mktemp -d -p "${WORK:-/tmp}")
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir home folder
export HOME=$scratch/home HEIRLOOM_PASSWORD=repository RESTIC_PASSWORD=repository RESTIC_REPOSITORY=$scratch/restic
export -n HEIRLOOM_BACKUP_PASSWORD 2>/dev/null || true

in_repository() { local name=$1; shift; "$bin/heirloom" --repo "$scratch/repository-$name" --quiet "$@"; }
bytes() { du -sb "$1" | cut -f 1; }
# grows NAME LABEL COMMAND...: what a repository grows by, with time and peak memory
grows() {
    local name=$1 before after
    before=$(bytes "repository-$name")
    /usr/bin/time -o time -f '%e s, %U + %S s of processor, %M KiB' "${@:3}" >out 2>&1 || { cat out; exit 1; }
    after=$(bytes "repository-$name")
    printf '%s %s: %d bytes; %s\n' "$2" "$name" $((after - before)) "$(tail -n 1 time)"
}
serve() {
    mkfifo "$1.days"
    "$bin/heirloom-sim" serve --seed "$seed" --size "$size" --socket "$scratch/$1.sock" "${@:2}" <>"$1.days" >"$1.log" 2>&1 &
    for _ in $(seq 600); do [ -S "$1.sock" ] && break; sleep 0.1; done
}
a_day_later() { echo >"$1.days"; sleep 2; }

echo "# $("$bin/heirloom" --version), $([ -n "$restic" ] && "$restic" version || echo "no restic"), $(nproc) x $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)"
for name in plain sealed cipher device on; do in_repository $name init --no-verify >/dev/null 2>&1; done
[ -n "$restic" ] && "$restic" init -q
serve encrypted --password secret
export USBMUXD_SOCKET_ADDRESS=UNIX:$scratch/encrypted.sock
in_repository device pair >/dev/null
for day in $(seq "$days"); do
    [ "$day" = 1 ] || a_day_later encrypted
    rm -rf folder/*
    idevicebackup2 backup --full folder >out 2>&1 || { cat out; exit 1; }
    "$bin/heirloom-sim" write --seed "$seed" --size "$size" --days $((day - 1)) unencrypted >/dev/null
    grows plain "day $day" "$bin/heirloom" --repo repository-plain --quiet import unencrypted/*
    grows sealed "day $day" env HEIRLOOM_BACKUP_PASSWORD=secret "$bin/heirloom" --repo repository-sealed --quiet import folder/*
    grows cipher "day $day" "$bin/heirloom" --repo repository-cipher --quiet import folder/*
    grows device "day $day" env HEIRLOOM_BACKUP_PASSWORD=secret "$bin/heirloom" --repo repository-device --quiet backup --full
    if [ -n "$restic" ]; then before=$(bytes restic); "$restic" backup -q folder; echo "day $day restic: $(($(bytes restic) - before)) bytes"; fi
    for name in sealed cipher; do
        rm -rf exported
        /usr/bin/time -o time -f '%e s, %U + %S s of processor, %M KiB' "$bin/heirloom" --repo repository-$name --quiet export latest --to exported >/dev/null
        diff -r folder exported && echo "day $day $name: the export is identical; $(tail -n 1 time)"
    done
done
in_repository sealed check --read-data
in_repository device check --read-data

echo "## encryption is switched on between two backups"
serve on
export USBMUXD_SOCKET_ADDRESS=UNIX:$scratch/on.sock
in_repository on pair >/dev/null
grows on "unencrypted" "$bin/heirloom" --repo repository-on --quiet backup
HEIRLOOM_NEW_BACKUP_PASSWORD=secret in_repository on encryption on >/dev/null 2>&1
grows on "encrypted" env HEIRLOOM_BACKUP_PASSWORD=secret "$bin/heirloom" --repo repository-on --quiet backup
in_repository on snapshots

echo "## wrong password, none, and killed"
status() { local code=0; "$@" >out 2>&1 || code=$?; echo "exit $code: $(head -n 1 out)"; }
status env HEIRLOOM_BACKUP_PASSWORD=wrong "$bin/heirloom" --repo repository-sealed import folder/*
status env HEIRLOOM_BACKUP_PASSWORD=wrong "$bin/heirloom" --repo repository-cipher decrypt latest
status "$bin/heirloom" --repo repository-cipher decrypt latest
status env HEIRLOOM_BACKUP_PASSWORD=secret timeout -s KILL 0.6 "$bin/heirloom" --repo repository-cipher decrypt latest
status env HEIRLOOM_BACKUP_PASSWORD=secret "$bin/heirloom" --repo repository-cipher decrypt
in_repository cipher check --read-data
export USBMUXD_SOCKET_ADDRESS=UNIX:$scratch/encrypted.sock
for after in 0.5 1.0 1.5; do
    status env HEIRLOOM_BACKUP_PASSWORD=secret timeout -s KILL $after "$bin/heirloom" --repo repository-device backup --full
    echo "left in tmp/: $(find repository-device/tmp -type f | wc -l) files"
done
status env HEIRLOOM_BACKUP_PASSWORD=secret "$bin/heirloom" --repo repository-device backup --full
in_repository device check --read-data
