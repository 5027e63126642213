#!/usr/bin/env bash
# Fuzzes each target for SECONDS (10), from the inputs in corpus/. A crash leaves its input in fuzz/artifacts/.
# No input of 64 KiB may take more than 512 MiB. Needs a C++ compiler for libFuzzer; stable Rust is enough.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-10}
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --release --locked --target-dir ../target/fuzz --target "$(rustc -vV | sed -n 's/^host: //p')"
mkdir -p artifacts
for target in store device; do
    found=../target/fuzz/found/$target
    mkdir -p "$found" "corpus/$target"
    ../target/fuzz/*/release/$target "$found" "corpus/$target" \
        -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=512 -artifact_prefix=artifacts/ -print_final_stats=1 \
        2>&1 | grep -E "ERROR|panicked|SUMMARY|stat::(number_of_executed_units|peak_rss_mb)"
done
