#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds every daemon and variant as for a router (router-build.sh) and prints installed and compressed size beside its
# budget, and what OpenWrt's own build of the feed gives, whose profile is another; exits 1 when a budget is exceeded.
# SIZE_CRATES=1 adds what each crate contributes. SIZE_ONLY=dynapoint: only that. SIZE_FEED=0: without the feed's profile.
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

# feed_bytes PACKAGE [CARGO ARGUMENT...]: the size by the profile of OpenWrt's packages feed (lang/rust), which unwinds and
# checks for overflows, with the library as rustc brings it. There it is linked to musl.
feed_bytes() {
	local package=$1 target=${CARGO_TARGET_DIR:-target}/feed
	shift
	CARGO_PROFILE_RELEASE_PANIC=unwind CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true CARGO_TARGET_DIR=$target \
		cargo build --quiet --release --package "$package" --bin "$package" "$@"
	stat -c %s "$target/release/$package"
}

failed=0
printf '%-12s %-7s %10s %10s %10s %10s\n' daemon variant bytes xz budget feed
while IFS=: read -r package variant flags budget; do
	if [ -z "$package" ] || [ "${SIZE_ONLY:-$package}" != "$package" ]; then continue; fi
	# shellcheck disable=SC2086 # flags is a list of words
	binary=$(tests/router-build.sh "$package" $flags)
	bytes=$(stat -c %s "$binary")
	packed=- feed=-
	if command -v xz >/dev/null 2>&1; then packed=$(xz -9 -c "$binary" | wc -c); fi
	# shellcheck disable=SC2086
	if [ "${SIZE_FEED:-1}" = 1 ]; then feed=$(feed_bytes "$package" $flags); fi
	verdict=
	if [ -n "$budget" ] && [ "$bytes" -gt "$budget" ]; then verdict=' EXCEEDED' failed=1; fi
	printf '%-12s %-7s %10d %10s %10s %10s%s\n' "$package" "$variant" "$bytes" "$packed" "${budget:--}" "$feed" "$verdict"
	if [ "${SIZE_CRATES:-0}" = 1 ]; then
		# shellcheck disable=SC2086
		binary=$(CARGO_PROFILE_RELEASE_STRIP=false tests/router-build.sh "$package" $flags)
		nm -S --defined-only "$binary" | tests/size-crates.py
	fi
done <<<"$variants"
exit "$failed"
