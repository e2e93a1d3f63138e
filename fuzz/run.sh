#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the fuzzer with the coverage that libFuzzer needs and runs targets; the stable toolchain is enough.
# Usage: run.sh list
#        run.sh TARGET [SECONDS (60)]     one target; what it finds is left in fuzz/artifacts/TARGET
#        run.sh TARGET FILE               one input once more
#        run.sh all [SECONDS (60)]        every target one after the other, with one line each
set -eu
cd "$(dirname "$0")"
list() { sed -n 's/^    ("\([a-z0-9_]*\)",.*/\1/p' targets/src/lib.rs; }
target=${1:?usage: run.sh list | TARGET [SECONDS | FILE] | all [SECONDS]}
[ "$target" != list ] || { list; exit 0; }
[ "$target" = all ] || list | grep -qx "$target" || { echo "run.sh: no target '$target'; see run.sh list" >&2; exit 2; }

flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
	-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 --cfg fuzzing"
triple=$(rustc -vV | sed -n 's/^host: //p')
# With the triple named, build scripts and macros are left without coverage.
RUSTFLAGS=$(echo "$flags" | tr -s '\n\t' '  ') RUSTC_BOOTSTRAP=1 \
	cargo build --quiet --release --target "$triple" --target-dir target
binary=$PWD/target/$triple/release/fuzz

# fuzz TARGET SECONDS: memory is bounded per target (targets/src/memory.rs) and for the whole process, and no input may
# take ten seconds.
fuzz() {
	mkdir -p "artifacts/$1" "corpus/$1"
	FUZZ_TARGET=$1 "$binary" -max_total_time="$2" -artifact_prefix="artifacts/$1/" -print_final_stats=1 \
		-timeout=10 -rss_limit_mb=512 -max_len=16384 "corpus/$1" "seeds/$1"
}

if [ "$target" = all ]; then
	failed=0
	for target in $(list); do
		log=$(mktemp)
		if fuzz "$target" "${2:-60}" >"$log" 2>&1; then
			sed -n 's/^stat::number_of_executed_units: */  executions /p' "$log" | tr '\n' ' '
			echo "$target: nothing found in ${2:-60} s"
		else
			failed=1
			tail -n 30 "$log"
			echo "$target: FOUND SOMETHING, see fuzz/artifacts/$target"
		fi
		rm -f "$log"
	done
	exit "$failed"
fi
if [ -f "${2:-}" ]; then
	FUZZ_TARGET=$target exec "$binary" "$2"
fi
fuzz "$target" "${2:-60}"
