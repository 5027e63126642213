#!/usr/bin/env bash
# A simulated phone backed up by heirloom and by idevicebackup2: first, next day, everything again; time, processor time, peak memory.
# Then the same phone encrypting, with its password known: killed in the middle three times, then whole.
#
#   cargo build --release --workspace && benches/phone.sh [SIZE] [SEED]
#
# Needs idevicebackup2 (libimobiledevice-utils) and GNU time. BIN names the folder of the programs, if not target/release.
set -euo pipefail
size=${1:-1500M} seed=${2:-41}
bin=$(realpath "${BIN:-target/release}")
scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir home
export HOME=$scratch/home HEIRLOOM_PASSWORD=repository
measured() { /usr/bin/time -f "$1: %e s, %U + %S s of processor, %M KiB" "${@:2}" 2>&1 >/dev/null | tail -1; }
heirloom() { "$bin/heirloom" --quiet "$@"; }

# serve NAME ARGS...: a phone at NAME.sock that lives a day for each line in NAME.days
serve() {
    mkfifo "$1.days"
    "$bin/heirloom-sim" serve --seed "$seed" --size "$size" --socket "$scratch/$1.sock" "${@:2}" <>"$1.days" >"$1.log" 2>&1 &
    for _ in $(seq 600); do [ -S "$1.sock" ] && break; sleep 0.1; done
    export USBMUXD_SOCKET_ADDRESS=UNIX:$scratch/$1.sock
}
a_day_later() { echo >"$1.days"; sleep 2; }

serve plain
heirloom pair >/dev/null
mkdir folder
for round in 1 2 3; do
    export HEIRLOOM_REPOSITORY=$scratch/repository$round
    heirloom init --no-verify >/dev/null 2>&1
    measured "heirloom, first, round $round" "$bin/heirloom" --quiet backup
    rm -rf folder/*
    measured "idevicebackup2, first, round $round" idevicebackup2 backup --full folder
done
a_day_later plain
measured "heirloom, a day later" "$bin/heirloom" --quiet backup
measured "idevicebackup2, a day later" idevicebackup2 backup folder
measured "heirloom, everything again" "$bin/heirloom" --quiet backup --full
heirloom snapshots
tail -1 plain.log | cut -c1-160

serve sealed --password secret
heirloom pair >/dev/null
export HEIRLOOM_REPOSITORY=$scratch/sealed HEIRLOOM_BACKUP_PASSWORD=secret
heirloom init --no-verify >/dev/null 2>&1
for after in 0.5 1.5 2.5; do
    timeout -s KILL "$after" "$bin/heirloom" --quiet backup && echo "it ended within $after s" || true
    echo "killed after $after s: $(du -sk sealed | cut -f1) KiB in the repository, $(ls sealed/tmp | wc -l) temporary files"
done
measured "heirloom, first, encrypted" "$bin/heirloom" --quiet backup
measured "heirloom, everything again, encrypted with new keys" "$bin/heirloom" --quiet backup --full
heirloom snapshots
"$bin/heirloom" check --read-data 2>/dev/null
