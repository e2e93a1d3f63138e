#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what building (`setup.sh build`), testing (`test`, `vm`), packing (`package`) or measuring (`bench`) needs on a
# Debian machine, as root; elsewhere it names what is missing and fails.
set -eu

purpose=${1:?usage: setup.sh build|test|vm|package|bench}

# program or file to look for : Debian package that brings it
build_parts="cc:gcc /usr/include/stdlib.h:libc6-dev"
test_parts="$build_parts
	mosquitto:mosquitto mosquitto_sub:mosquitto-clients /usr/sbin/exim4:exim4-daemon-light
	cmake:cmake make:make c++:g++ /usr/lib/llvm-*/lib/libclang.so:libclang-dev
	chromium:chromium node:nodejs npm:npm
	dnsmasq:dnsmasq-base
	ip:iproute2 nft:nftables ss:iproute2 setpriv:util-linux
	busybox:busybox-static shellcheck:shellcheck
	python3:python3 /usr/lib/python3*/ensurepip:python3-venv"

vm_parts="$build_parts qemu-system-x86_64:qemu-system-x86 dpkg-deb:dpkg apt-get:apt"

package_parts="$build_parts make:make python3:python3 /usr/share/doc/python3-venv:python3-venv openssl:openssl
	/usr/lib/rustlib/src/rust/library:rust-web-src /usr/bin/rustc:rustc-web qemu-mips-static:qemu-user-static"

bench_parts="$build_parts python3:python3 /usr/share/doc/python3-venv:python3-venv
	ip:iproute2 nft:nftables ss:iproute2 tc:iproute2 iperf3:iperf3 mptcpize:mptcpize haproxy:haproxy
	ss-redir:shadowsocks-libev redsocks:redsocks microsocks:microsocks mosquitto:mosquitto valgrind:valgrind"

case $purpose in
build) parts=$build_parts ;;
test) parts=$test_parts ;;
vm) parts=$vm_parts ;;
package) parts=$package_parts ;;
bench) parts=$bench_parts ;;
*) echo "setup.sh: unknown purpose '$purpose'" >&2; exit 2 ;;
esac

command -v cargo >/dev/null 2>&1 || {
	echo "setup.sh: no Rust toolchain: install one (cargo and rustc 1.88 or newer), then run this again" >&2
	exit 1
}

present() {
	case $1 in
	/*)
		for file in $1; do
			[ ! -e "$file" ] || return 0
		done
		return 1
		;;
	*) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 ;;
	esac
}

missing=
for part in $parts; do
	present "${part%%:*}" || missing="$missing ${part#*:}"
done
# What drives the browser, at the versions of its lock file.
browser_parts() {
	[ "$purpose" = test ] || return 0
	directory=$(dirname "$0")/browser
	[ -d "$directory/node_modules/eslint" ] && [ -d "$directory/node_modules/playwright-core" ] && return 0
	(cd "$directory" && npm ci --silent --no-audit --no-fund)
}
# An independent reader of COMTRADE files.
comtrade_reader() {
	[ "$purpose" = test ] || return 0
	directory=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/comtrade
	[ ! -e "$directory/done" ] || return 0
	python3 -m venv "$directory" && "$directory/bin/pip" install --quiet comtrade==0.2.0 && touch "$directory/done"
}
[ -n "$missing" ] || { browser_parts; comtrade_reader; exit 0; }

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "setup.sh: missing and not installable from here:$missing" >&2
	echo "setup.sh: as root on Debian or Ubuntu: apt-get install$missing" >&2
	exit 1
fi
echo "installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# Debian starts a broker of its own on installing mosquitto; the tests bring theirs.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
	trap 'rm -f "$log" "$policy"' EXIT
fi
# shellcheck disable=SC2086 # a list of package names
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
	cat "$log" >&2
	echo "setup.sh: apt-get could not install:$missing" >&2
	exit 1
fi
browser_parts
comtrade_reader
