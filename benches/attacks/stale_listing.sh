#!/usr/bin/env bash
# Attacks a backup at work by listings that are served late: `stale_listing.sh HEIRLOOM`.
#
# A snapshot was forgotten; an import of the same backup has found its chunks there, and rests. A prune on another computer, which does not list what is
# younger than 45 s, deletes them; then the import goes on. It says "kept", and the snapshot lacks everything: that is the loss. Once the system says that
# the folder is on a local disk, and once (by strace, if there is one) that it is on a share.
# Exit 0 if nothing was lost, 1 if something was.
set -euo pipefail
cd "$(dirname "$0")"
heirloom=$(realpath "${1:?usage: stale_listing.sh HEIRLOOM}")
. ./common.sh
cc -shared -fPIC -O1 -o "$work/late.so" late.c -ldl
backup "$work/first" 1
backup "$work/other" 2
lost=0

# attack FOLDERS NAME [COMMAND BEFORE THE PRUNE...]
attack() {
    local folders=$1 repo="$work/repo-$2"
    shift 2
    "$heirloom" -q -r "$repo" init --no-password >/dev/null
    "$heirloom" -q -r "$repo" import "$work/other/$udid" >/dev/null 2>&1 || true
    "$heirloom" -q -r "$repo" import "$work/first/$udid" >/dev/null 2>&1 || true
    "$heirloom" -q -r "$repo" forget latest~1 >/dev/null
    # What is on a share is old.
    find "$repo" -type f -exec touch -d '1 hour ago' {} +
    import_slowly "$repo" "$work/import.log"
    echo "  prune, while the import is at work:"
    local code=0
    LD_PRELOAD="$work/late.so" LATE_SECONDS=45 LATE_FOLDERS=" $folders " "$@" "$heirloom" -r "$repo" --no-progress prune >"$work/prune.log" 2>&1 || code=$?
    said "$work/prune.log"
    echo "    exit $code"
    go_on
    echo "  import:"
    said "$work/import.log"
    code=0
    "$heirloom" -r "$repo" --no-progress check --read-data >"$work/check.log" 2>&1 || code=$?
    echo "  check --read-data: exit $code"
    if [ $code != 0 ]; then
        head -n 4 "$work/check.log" | sed 's/^/    /'
        lost=1
    fi
}

echo "$("$heirloom" --version): listings of sessions/ 45 s late, on a disk"
attack sessions disk
echo "listings of sessions/, gc/, snapshots/, parked/ and trash/ 45 s late, on a disk"
attack "sessions gc snapshots parked trash" all
if command -v strace >/dev/null; then
    # statfs(2) says that it is SMB.
    share=(strace -f -qq -o /dev/null -e trace=statfs -e 'inject=statfs:poke_exit=@arg2=424d53fe00000000')
    echo "listings of sessions/ 45 s late, on a share"
    attack sessions share "${share[@]}"
fi
if [ $lost = 0 ]; then echo "nothing was lost"; else echo "LOST: a snapshot that was said to be kept cannot be read"; fi
exit $lost
