#!/usr/bin/env bash
# heirloom's import and export beside restic's backup and restore, on the same folder, in turn, into fresh repositories.
#
#   cargo build --release --workspace
#   target/release/heirloom-sim write --seed 1 --size 1G --days 0 SOURCE
#   benches/restic.sh SOURCE [RUNS] > results.csv
#
# RESTIC names the program to compare with, WORK a folder on the disk to measure. Each restored folder is compared byte for byte. The
# columns are tool, run, step, wall seconds, user and system seconds, peak memory in KiB, and the repository's bytes after it.
set -euo pipefail
source=$(realpath "$1")
runs=${2:-3}
restic=${RESTIC:-restic}
heirloom=$(realpath "$(dirname "$0")/../target/release/heirloom")
work=$(mktemp -d -p "${WORK:-/tmp}")
trap 'rm -rf "$work"' EXIT
export HOME=$work/home RESTIC_PASSWORD=measure HEIRLOOM_PASSWORD=measure
mkdir "$HOME"

# measure TOOL RUN STEP REPOSITORY COMMAND...
measure() {
    local tool=$1 run=$2 step=$3 repository=$4
    shift 4
    sync
    /usr/bin/time -o "$work/time" -f '%e,%U,%S,%M' "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
    echo "$tool,$run,$step,$(tail -n 1 "$work/time"),$(du -sb "$repository" | cut -f 1)"
}

echo "# $("$restic" version)"
echo "# $("$heirloom" --version)"
echo "# $(nproc) x $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(uname -sr), $(df --output=fstype "$work" | tail -n 1)"
echo "# source: $(find "$source" -type f | wc -l) files, $(du -sb "$source" | cut -f 1) bytes"
echo "tool,run,step,wall_s,user_s,system_s,peak_kib,repository_bytes"
for run in $(seq "$runs"); do
    repository=$work/heirloom
    "$heirloom" --repo "$repository" init >/dev/null 2>&1
    measure heirloom "$run" first "$repository" "$heirloom" --repo "$repository" import "$source"
    measure heirloom "$run" again "$repository" "$heirloom" --repo "$repository" import "$source"
    measure heirloom "$run" check "$repository" "$heirloom" --repo "$repository" check --read-data
    measure heirloom "$run" restore "$repository" "$heirloom" --repo "$repository" export latest --to "$work/restored"
    diff -r "$source" "$work/restored/$(basename "$source")"
    rm -rf "$repository" "$work/restored"

    repository=$work/restic
    "$restic" -r "$repository" init >/dev/null
    measure restic "$run" first "$repository" "$restic" -r "$repository" backup -q "$source"
    measure restic "$run" again "$repository" "$restic" -r "$repository" backup -q "$source"
    measure restic "$run" check "$repository" "$restic" -r "$repository" check -q --read-data
    measure restic "$run" restore "$repository" "$restic" -r "$repository" restore -q latest --target "$work/restored"
    diff -r "$source" "$work/restored$source"
    rm -rf "$repository" "$work/restored"
done
