#!/usr/bin/env bash
# Attacks a backup at work by the name of its machine: `presumed_dead.sh HEIRLOOM`, as root.
#
# An import is at work. A prune runs where the host has the same name: in a container with processes of its own, and on a machine with another boot id, as
# a cloned card has. Neither may end the session. Exit 0 if both leave it, 1 if one ends it.
set -euo pipefail
cd "$(dirname "$0")"
heirloom=$(realpath "${1:?usage: presumed_dead.sh HEIRLOOM}")
. ./common.sh
backup "$work/first" 1
repo="$work/repo"
"$heirloom" -q -r "$repo" init --no-password >/dev/null
ended=0

# attack NAME COMMAND...: COMMAND is given a program to run elsewhere.
attack() {
    local name=$1
    shift
    import_slowly "$repo" "$work/import.log"
    "$@" "$heirloom" -r "$repo" --no-progress prune >"$work/prune.log" 2>&1 || true
    if compgen -G "$repo/sessions/*" >/dev/null; then
        echo "$name: the session of the import is left alone"
    else
        echo "$name: the session of an import at work is ENDED"
        ended=1
    fi
    go_on
}

"$heirloom" --version
attack "a container of the same host name" unshare --pid --fork --uts --mount-proc
cat /proc/sys/kernel/random/uuid >"$work/boot_id"
attack "another machine of the same name" unshare --mount sh -c 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"' "$work/boot_id"
exit $ended
