#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The test run behind `make test` (quick) and `make test-long` (long): stages in order, one summary at the end.
set -u
cd "$(dirname "$0")/.." || exit 2
mode=${1:?usage: run.sh quick|long}

# In a plain chroot the root directory is no mount point, and `ip netns` refuses: go on in one that is.
if [ "$(id -u)" = 0 ] && [ -r /proc/self/mountinfo ] && [ -z "${IN_OWN_ROOT:-}" ] &&
	! awk '$5 == "/" { found = 1 } END { exit !found }' /proc/self/mountinfo; then
	root=$(mktemp -d)
	mount --rbind / "$root" && mount --make-rprivate "$root" || exit 1
	# shellcheck disable=SC2016 # for the inner shell
	IN_OWN_ROOT=1 chroot "$root" /bin/sh -c 'cd "$1" && exec tests/run.sh "$2"' sh "$PWD" "$mode"
	status=$?
	umount -R -l "$root" && rmdir "$root"
	exit "$status"
fi

export PATH="$PATH:/usr/sbin:/sbin" CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
log_dir=$(mktemp -d)
trap 'rm -rf "$log_dir"' EXIT
started=$SECONDS
passed=0 failed=0 skipped=0 second_try=0
summary=()

# stage NAME COMMAND...: runs it, keeps its output, counts its tests.
stage() {
	local name=$1 begin=$SECONDS log="$log_dir/$1" status
	shift
	printf '\n== %s\n' "$name"
	"$@" 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	count "$log" "$status"
	local verdict=ok
	[ "$status" = 0 ] || verdict=FAILED
	summary+=("$(printf '%-22s %-7s %4d s' "$name" "$verdict" $((SECONDS - begin)))")
	return "$status"
}

# Adds the closing lines of nextest and of cargo test to the totals; a stage without tests counts as one.
count() {
	local log=$1 status=$2 line p f f2 s found=0
	while IFS= read -r line; do
		p=$(grep -oE '[0-9]+ passed' <<<"$line" | grep -oE '[0-9]+') || p=0
		f=$(grep -oE '[0-9]+ failed' <<<"$line" | grep -oE '[0-9]+') || f=0
		s=$(grep -oE '[0-9]+ (skipped|ignored)' <<<"$line" | grep -oE '[0-9]+' | head -n 1) || s=0
		f2=$(grep -oE '[0-9]+ flaky' <<<"$line" | grep -oE '[0-9]+') || f2=0
		second_try=$((second_try + ${f2:-0}))
		passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0})) skipped=$((skipped + ${s:-0})) found=1
	done < <(sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E '^ *Summary \[|^test result:')
	if [ "$found" = 0 ]; then
		if [ "$status" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
	elif [ "$status" != 0 ] && [ "$failed" = 0 ]; then
		failed=1
	fi
}

# tests quick|long: by nextest where it is installed, else by cargo test; long selects the ignored rows.
tests() {
	local filter=()
	if cargo nextest --version >/dev/null 2>&1; then
		[ "$1" = long ] && filter=(--profile long --run-ignored only)
		cargo nextest run "${filter[@]}"
	else
		[ "$1" = long ] && filter=(-- --ignored)
		cargo test --no-fail-fast "${filter[@]}"
	fi
}

stage "setup" tests/setup.sh test || exit 1
if [ "$mode" = quick ]; then
	stage "lint" tests/lint.sh
	stage "build" cargo build --all-targets || exit 1
	stage "unit and end-to-end" tests quick
	stage "alerts without TLS" cargo test --quiet -p alerts --features exec,mqtt
	stage "doc examples" cargo test --quiet --doc
	stage "uci against libuci" cargo test -p uci-oracle
else
	stage "build" cargo build --all-targets || exit 1
	stage "long rows" tests long
fi

printf '\n'
printf '%s\n' "${summary[@]}"
printf 'total %d s\n' $((SECONDS - started))
printf '%d passed, %d failed, %d skipped, %d of the passed at a second try\n' "$passed" "$failed" "$skipped" "$second_try"
[ "$failed" = 0 ]
