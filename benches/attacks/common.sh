# What the attacks share: a folder of their own, and a small backup. Sourced by them.

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
export XDG_CACHE_HOME="$work/cache" XDG_DATA_HOME="$work/data" HOME="$work"
udid=00008030-000A1D0C3E38802E
cc -shared -fPIC -O1 -o "$work/rest.so" rest.c -ldl

# backup DIR SEED: a backup folder of 40 files, the same for each seed.
backup() {
    local dir="$1/$udid" n
    mkdir -p "$dir/ab"
    for n in $(seq 10 49); do
        head -c 300000 /dev/zero | openssl enc -aes-128-ctr -nosalt -K "$(printf '%032d' "$2")" -iv "$(printf '%032d' "$n")" >"$dir/ab/ab$(printf '%038d' "$n")"
    done
    plist() { echo "<?xml version=\"1.0\" encoding=\"UTF-8\"?><plist version=\"1.0\"><dict>$1</dict></plist>"; }
    plist "<key>Device Name</key><string>A phone</string><key>Last Backup Date</key><date>2026-01-0${2}T00:00:00Z</date>" >"$dir/Info.plist"
    plist "<key>SnapshotState</key><string>finished</string><key>Date</key><date>2026-01-0${2}T00:00:00Z</date>" >"$dir/Status.plist"
    plist "<key>IsEncrypted</key><false/>" >"$dir/Manifest.plist"
}

# import_slowly REPO LOG: imports the first backup, and one file more, at which it rests until `go_on`. Its process is in $import.
import_slowly() {
    cp -r "$work/first" "$work/slow"
    local last="$work/slow/$udid/zz"
    head -c 70000 /dev/zero >"$last"
    rm -f "$work/gone-on" "$work/gone-on.waits"
    (
        exec >"$2" 2>&1
        code=0
        LD_PRELOAD="$work/rest.so" REST_AT="$last" REST_UNTIL="$work/gone-on" "$heirloom" -r "$1" --no-progress import --full-read --force "$work/slow/$udid" || code=$?
        echo "exit $code"
    ) &
    import=$!
    wait_for "$work/gone-on.waits"
}

go_on() {
    touch "$work/gone-on"
    wait "$import" || true
    rm -rf "$work/slow"
}

# wait_for FILE_PATTERN: until there is a file, half a minute at most.
wait_for() {
    for _ in $(seq 300); do
        compgen -G "$1" >/dev/null && return
        sleep 0.1
    done
    echo "nothing came at $1"
    exit 2
}

# said FILE: what was printed, without what only tells how far it is.
said() { grep -vE '^(importing|opened|[0-9 ]+ files)' "$1" | sed 's/^/    /' || true; }
