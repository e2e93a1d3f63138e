#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds every daemon and variant as for a router (router-build.sh), prints installed and compressed size beside its
# budget; SIZE_CRATES=1 adds what each crate contributes. Exits 1 when a budget is exceeded. SIZE_ONLY=dynapoint: only that.
set -eu
cd "$(dirname "$0")/.."

# package : variant : cargo flags : budget in bytes
variants="
powqutyd:small:--no-default-features:2000000
powqutyd:tls::3000000
mptcp-proxy:small:--no-default-features:900000
dynapoint:tls:--features tls:
dynapoint:small:--no-default-features:900000
"
failed=0
printf '%-12s %-7s %10s %10s %10s\n' daemon variant bytes xz budget
while IFS=: read -r package variant flags budget; do
	if [ -z "$package" ] || [ "${SIZE_ONLY:-$package}" != "$package" ]; then continue; fi
	# shellcheck disable=SC2086 # flags is a list of words
	binary=$(tests/router-build.sh "$package" $flags)
	bytes=$(stat -c %s "$binary")
	packed=-
	if command -v xz >/dev/null 2>&1; then packed=$(xz -9 -c "$binary" | wc -c); fi
	verdict=
	if [ -n "$budget" ] && [ "$bytes" -gt "$budget" ]; then verdict=' EXCEEDED' failed=1; fi
	printf '%-12s %-7s %10d %10s %10s%s\n' "$package" "$variant" "$bytes" "$packed" "${budget:--}" "$verdict"
	if [ "${SIZE_CRATES:-0}" = 1 ]; then
		# shellcheck disable=SC2086
		binary=$(CARGO_PROFILE_RELEASE_STRIP=false tests/router-build.sh "$package" $flags)
		nm -S --defined-only "$binary" | tests/size-crates.py
	fi
done <<<"$variants"
exit "$failed"
