#!/usr/bin/env bash
# Attacks a repository with a password as somebody does who can write to its folder: adds a key that opens without one, and holds a secret of his own.
#
#     benches/attacks/injected_slot.sh HEIRLOOM [PYTHON]
#
# PYTHON has the packages of tests/vectors/requirements.txt. It says what the owner's next backup does, and what the attacker can read afterwards;
# exits 1 if he can read anything, or if nobody is told.
set -uo pipefail
heirloom=$(realpath "$1")
python=${2:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
export HOME=$work XDG_CACHE_HOME=$work/cache XDG_DATA_HOME=$work/data HEIRLOOM_REPOSITORY=$work/repo
unset HEIRLOOM_PASSWORD HEIRLOOM_PASSWORD_FILE HEIRLOOM_PASSWORD_COMMAND
failed=0

# A backup folder of one file, as idevicebackup2 leaves it but for what an import does without.
backup=$work/00008030-001A2B3C4D5E6F70
mkdir -p "$backup/79"
echo "the voicemail of a parent" > "$backup/79/79b9e6bf5d16d9020d605cffafdc82a24a9b2cd0"
for name in Info Manifest Status; do
    echo '<?xml version="1.0"?><plist version="1.0"><dict><key>Unique Identifier</key><string>00008030-001A2B3C4D5E6F70</string><key>Date</key><date>2024-05-03T12:00:00Z</date><key>SnapshotState</key><string>finished</string></dict></plist>' > "$backup/$name.plist"
done

owner() { HEIRLOOM_PASSWORD='correct horse' "$heirloom" "$@"; }

inject() { # kind of attack
    "$python" - "$work/repo" "$1" <<'PY'
import glob, json, os, sys
from blake3 import blake3

repo, kind = sys.argv[1:]
config = open(f"{repo}/config").read().split("\n")[0]
if kind == "all":
    for slot in glob.glob(f"{repo}/keys/*"):
        os.remove(slot)
slot = {"slot": "00" * 8, "kind": "open", "created": 1, "config": config, "secret": "66" * 32}
names = ["00" * 8 + "-1", "00" * 8 + "-2"]
if kind == "copy":
    name = sorted(glob.glob(f"{repo}/keys/*-1"))[0]
    slot["slot"] = os.path.basename(name)[:16]
    names = [os.path.basename(name)]
line = json.dumps(slot, separators=(",", ":"))
for name in names:
    open(f"{repo}/keys/{name}", "w").write(f"{line}\n{blake3(line.encode()).hexdigest()}\n")
PY
}

for kind in beside copy all; do
    rm -rf repo cache data
    owner init --no-verify > /dev/null || exit 2
    [ "${KEEP_MEMORY:-1}" = 1 ] || rm -rf data
    inject "$kind"
    echo "== an open key $kind$([ "$kind" = all ] && echo ' others are gone')"
    owner import "$backup" > said 2>&1
    echo "the owner's import, exit $?:"
    sed 's/^/    /' said
    # By himself, without what this computer remembers.
    rm -rf data
    read_by_attacker=$("$heirloom" --json snapshots 2> /dev/null | grep -o '"id"' | wc -l)
    echo "snapshots that the attacker can read without a password: $read_by_attacker"
    told=$(grep -ciE 'attack|password' said)
    [ "$read_by_attacker" = 0 ] && [ "$told" -gt 0 ] || failed=1
done
exit $failed
