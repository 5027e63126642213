#!/usr/bin/env bash
# Whether a copy that lacks something is told from a whole one without the password:
#
#     benches/attacks/copy_proof.sh HEIRLOOM
#
# Makes a repository with that program, copies it, takes something away, and prints what `check --packs` says and how it ends (30: damage). Then the
# same of a file in `index/` that is 6 GB of nothing, with the most memory that a check took. Works with programs whose packs all lie in `packs/`.
set -euo pipefail

program=$(realpath "${1:?usage: copy_proof.sh HEIRLOOM}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work/home" XDG_CACHE_HOME="$work/cache" XDG_DATA_HOME="$work/data" NO_COLOR=1
mkdir -p "$HOME"
cd "$work"
udid=00008101-000A2C4E6F801E3A

# A folder that is a backup as far as its lists go: what lies in it is kept by its places.
backup() {
    mkdir -p "backups/$udid/aa"
    head -c 3000000 /dev/urandom > "backups/$udid/aa/$1"
    for list in Info Status Manifest; do
        cat > "backups/$udid/$list.plist" <<PLIST
<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict><key>Unique Identifier</key><string>$udid</string><key>Device Name</key><string>A phone</string>
<key>SnapshotState</key><string>finished</string><key>IsEncrypted</key><false/><key>Date</key><date>2026-05-0${2}T12:00:00Z</date></dict></plist>
PLIST
    done
    "$program" --repo first import "backups/$udid" > /dev/null 2> import.log || [ $? = 3 ] || { cat import.log; exit 1; }
}

"$program" --repo first init --no-password > /dev/null
backup aa00000000000000000000000000000000000001 1
backup aa00000000000000000000000000000000000002 2
some() { find "$1" -type f | sort | head -1; }

# What is said of the copy, without the lines that say how long it took.
try() {
    local title=$1 exit=0
    shift
    echo "== $title"
    "$program" --repo copy check --packs "$@" 2>&1 | sed 's/^/   /' || exit=${PIPESTATUS[0]}
    echo "   exit $exit"
}

copy() { rm -rf copy && cp -a first copy; }

copy && try "whole copy"
copy && rm "$(some copy/packs)" && try "a pack is missing"
if [ -d first/trees ]; then copy && rm "$(some copy/trees)" && try "a pack of trees is missing"; fi
copy && truncate -s -4096 "$(some copy/packs)" && try "a pack is cut"
copy && rm "$(some copy/index)" && try "a segment is missing"
snapshot=$(basename "$(some first/snapshots)")
copy && rm "copy/snapshots/$snapshot" && try "a snapshot is missing"
copy && rm "copy/snapshots/$snapshot" "copy/spares/$snapshot" && try "a snapshot is missing, and its spare"
if "$program" check --help | grep -q -- --same-as; then
    try "the same, beside the first" --same-as first
    copy && try "whole copy, beside the first" --same-as first
fi

echo "== a file in index/ of 6 GB of nothing"
copy && truncate -s 6G "copy/index/$(printf '7%.0s' {1..64})"
python3 - "$program" <<'PYTHON'
import resource, subprocess, sys

# So that the attack takes what it can get of the program, and not of the machine.
limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
for arguments in (["ls", "latest"], ["check"]):
    command = [sys.argv[1], "--repo", "copy", *arguments]
    try:
        run = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, timeout=120)
        said = [line for line in (run.stdout + run.stderr).splitlines() if "777777" in line or "memory" in line]
        print("  ", *arguments, "->", said[0] if said else "nothing was said of it", f"(exit {run.returncode})")
    except subprocess.TimeoutExpired:
        print("  ", *arguments, "-> had not ended after 120 s")
    print(f"   most memory so far: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024} MiB")
PYTHON
