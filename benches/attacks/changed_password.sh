#!/usr/bin/env bash
# A phone whose backup password was changed, by another computer, between two backups: without a terminal and on one; then a mistyped password, and the same backup
# imported without its password. After each step: how it ended, what was said, how many snapshots there are, what they take, and what the phone sent.
#
#   cargo build --release --workspace && benches/attacks/changed_password.sh [HEIRLOOM]
#
# HEIRLOOM is the program, target/release/heirloom if it is not given; heirloom-sim lies beside it, or SIM names it. Needs python3, which makes the terminal.
set -euo pipefail
heirloom=$(realpath "${1:-target/release/heirloom}")
sim=$(realpath "${SIM:-$(dirname "$heirloom")/heirloom-sim}")
scratch=$(mktemp -d -p "${WORK:-/tmp}")
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir home
export HOME=$scratch/home TZ=UTC HEIRLOOM_REPOSITORY=$scratch/repository HEIRLOOM_PASSWORD="of the repository"
export USBMUXD_SOCKET_ADDRESS=UNIX:$scratch/phone.sock
unset HEIRLOOM_BACKUP_PASSWORD HEIRLOOM_BACKUP_PASSWORD_FILE

"$sim" serve --seed 12 --size 20M --password first --socket "$scratch/phone.sock" </dev/null >sim.log 2>&1 &
for _ in $(seq 600); do [ -S phone.sock ] && break; sleep 0.1; done

count() { "$heirloom" --json snapshots 2>/dev/null | python3 -c 'import json, sys; rows = json.load(sys.stdin); print(len(rows), "snapshots,", sum(r["sealed"] for r in rows), "of them readable")'; }
# step TITLE COMMAND...: runs it, and tells what came of it
step() {
    local code=0
    printf '\n## %s\n$ heirloom' "$1"
    printf ' %s' "${@:2}"
    echo
    "$heirloom" --no-progress "${@:2}" </dev/null >out 2>&1 || code=$?
    tell $code
}
# typed TITLE LINES COMMAND...: the same on a terminal, where the lines are typed, each when it is asked for
typed() {
    local code=0
    printf '\n## %s\n$ heirloom' "$1"
    printf ' %s' "${@:3}"
    echo "     (typed: ${2//$'\n'/, })"
    LINES_TO_TYPE=$2 python3 - "$heirloom" --no-progress "${@:3}" >out <<'END' || code=$?
import os, pty, re, sys

lines, said = os.environ["LINES_TO_TYPE"].split("\n"), b""

def read(terminal):
    global said
    data = os.read(terminal, 4096)
    said += data
    if lines and re.search(rb"(password[^\n]*|again): $", said, re.IGNORECASE):
        os.write(terminal, lines.pop(0).encode() + b"\n")
        said = b""
    return data

sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], read, lambda stdin: b"")))
END
    tell $code
}
tell() {
    sed 's/\r//; s/^/    /' out
    printf '    exit %d; %s, %d bytes in packs\n' "$1" "$(count)" "$(du -sbc repository/packs repository/trees 2>/dev/null | tail -n 1 | cut -f 1)"
}
change() { HEIRLOOM_REPOSITORY=$scratch/elsewhere HEIRLOOM_BACKUP_PASSWORD=$1 HEIRLOOM_NEW_BACKUP_PASSWORD=$2 "$heirloom" --quiet encryption change-password >/dev/null; }

"$heirloom" --version
"$heirloom" --quiet init --no-verify >/dev/null 2>&1
"$heirloom" --quiet pair >/dev/null
export HEIRLOOM_BACKUP_PASSWORD=first
step "The first backup, its password remembered" backup --remember-password
unset HEIRLOOM_BACKUP_PASSWORD
step "The second, a moment later" backup
change first second
step "Changed to 'second' elsewhere; nobody at a terminal" backup
step "The same the next night" backup
export HEIRLOOM_BACKUP_PASSWORD=mistyped
step "A mistyped password; nobody at a terminal" backup
unset HEIRLOOM_BACKUP_PASSWORD
typed "On a terminal" $'second\nsecond' backup --remember-password
step "The night after" backup
change second third
typed "Changed to 'third'; on a terminal, mistyped twice" $'thirt\nthirt\nthird' backup --remember-password
step "The night after" backup
"$heirloom" --quiet export latest --to exported >/dev/null
step "The newest, exported, and imported without its password" import exported
