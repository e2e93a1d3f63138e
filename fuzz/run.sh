#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds a fuzz target with the coverage that libFuzzer needs and runs it; the stable toolchain is enough.
# Usage: run.sh TARGET [SECONDS (60)]. What it finds is left in fuzz/artifacts/TARGET.
set -eu
cd "$(dirname "$0")"
target=${1:?usage: run.sh TARGET [SECONDS]}
[ -e "targets/$target.rs" ] || { echo "run.sh: no target '$target'; there are:" targets/*.rs >&2; exit 2; }
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
	-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 --cfg fuzzing"
triple=$(rustc -vV | sed -n 's/^host: //p')
# With the triple named, build scripts and macros are left without coverage.
RUSTFLAGS=$(echo "$flags" | tr -s '\n\t' '  ') cargo build --quiet --release --target "$triple" --bin "$target"
mkdir -p "artifacts/$target" "corpus/$target"
exec "target/$triple/release/$target" -max_total_time="${2:-60}" -artifact_prefix="artifacts/$target/" \
	-print_final_stats=1 "corpus/$target" "seeds/$target"
