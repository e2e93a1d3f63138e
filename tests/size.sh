#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the router profile of every daemon and variant, prints installed and compressed size beside its budget,
# and what each crate contributes where cargo-bloat is installed. Exits 1 when a budget is exceeded.
set -eu
cd "$(dirname "$0")/.."

# package : variant : cargo flags : budget in bytes
variants="
powqutyd:small:--no-default-features:2000000
powqutyd:tls::3000000
dynapoint:small:--no-default-features:900000
dynapoint:tls:--features tls:
mptcp-proxy:small:--no-default-features:900000
"
failed=0
printf '%-12s %-7s %10s %10s %10s\n' daemon variant bytes xz budget
while IFS=: read -r package variant flags budget; do
	if [ -z "$package" ] || [ ! -d "$package" ]; then continue; fi
	# shellcheck disable=SC2086 # flags is a list of words
	cargo build --quiet --release --package "$package" $flags
	binary=${CARGO_TARGET_DIR:-target}/release/$package
	bytes=$(stat -c %s "$binary")
	packed=-
	if command -v xz >/dev/null 2>&1; then packed=$(xz -9 -c "$binary" | wc -c); fi
	verdict=
	if [ -n "$budget" ] && [ "$bytes" -gt "$budget" ]; then verdict=' EXCEEDED' failed=1; fi
	printf '%-12s %-7s %10d %10s %10s%s\n' "$package" "$variant" "$bytes" "$packed" "${budget:--}" "$verdict"
	if [ "${SIZE_CRATES:-0}" = 1 ] && cargo bloat --version >/dev/null 2>&1; then
		# shellcheck disable=SC2086
		CARGO_PROFILE_RELEASE_STRIP=false cargo bloat --release --crates -n 12 --package "$package" $flags
	fi
done <<<"$variants"
exit "$failed"
