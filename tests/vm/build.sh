#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds what lab::vm boots: a Debian kernel with the modules the tests need, and a root file system of busybox and
# Wi-Fi tools. Usage: build.sh DIRECTORY. Nothing is installed; packages are downloaded and unpacked below DIRECTORY.
set -eu

out=${1:?usage: build.sh DIRECTORY}
mkdir -p "$out/debs"
out=$(cd "$out" && pwd)
arch=$(dpkg --print-architecture)

packages="busybox-static hostapd wpasupplicant iw iproute2 iputils-ping kmod
	libkmod2 libnl-3-200 libnl-genl-3-200 libnl-route-3-200 libssl3 libdbus-1-3 libpcsclite1 libreadline8 libtinfo6
	libsystemd0 libmnl0 libbpf1 libelf1 libcap2 libcap2-bin libdb5.3 libxtables12 libtirpc3 libzstd1 liblzma5
	libgcc-s1 libc6 zlib1g libbsd0 libmd0 libselinux1 libpcre2-8-0 liblz4-1 libgcrypt20 libgpg-error0
	batctl nftables libnftables1 libnftnl11 libjansson4 libedit2 libgmp10
	libgssapi-krb5-2 libkrb5-3 libk5crypto3 libcom-err2 libkrb5support0 libkeyutils1 libidn2-0 libunistring2"
# The kernel of this Debian.
kernel=$(apt-cache depends "linux-image-$arch" 2>/dev/null | sed -n 's/^ *Depends: //p' | head -n 1)
[ -n "$kernel" ] || { echo "build.sh: apt knows no kernel; run apt-get update" >&2; exit 1; }

stamp="$kernel $(cksum <"$0")"
if [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi
rm -rf "$out/unpacked" "$out/root" "$out/stamp"
mkdir -p "$out/unpacked" "$out/root"
echo "downloading $kernel and the tools of the test machine"
# shellcheck disable=SC2086 # a list of package names
(cd "$out/debs" && apt-get download -qq $packages "$kernel" 2>"$out/apt.log") ||
	{ cat "$out/apt.log" >&2; exit 1; }
for deb in "$out"/debs/*.deb; do
	dpkg-deb -x "$deb" "$out/unpacked"
done
rm -rf "$out/debs"

unpacked=$out/unpacked root=$out/root
release=$(ls "$unpacked/lib/modules")
cp "$unpacked/boot/vmlinuz-$release" "$out/kernel"
mkdir -p "$root/bin" "$root/sbin" "$root/lib" "$root/lib64" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" \
	"$root/run" "$root/var" "$root/etc" "$root/usr/sbin" "$root/test"
ln -s ../run "$root/var/run"

# tool FILE...: a program with the libraries it wants.
libraries=$unpacked/usr/lib/$(uname -m)-linux-gnu:$unpacked/lib/$(uname -m)-linux-gnu
tool() {
	for file in "$@"; do
		cp -L "$file" "$root/usr/sbin/"
		LD_LIBRARY_PATH=$libraries ldd "$file" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | while read -r library; do
			[ -e "$root/lib/${library##*/}" ] || cp -L "$library" "$root/lib/"
		done
	done
}
tool "$unpacked/usr/sbin/hostapd" "$unpacked/usr/sbin/hostapd_cli" "$unpacked/sbin/wpa_supplicant" \
	"$unpacked/sbin/wpa_cli" "$unpacked/sbin/iw" "$unpacked/bin/ip" "$unpacked/sbin/tc" "$unpacked/bin/ping" \
	"$unpacked/usr/sbin/batctl" "$unpacked/usr/sbin/nft"
cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
# What a test's own program wants beside that.
for library in libgcc_s.so.1 libm.so.6 libc.so.6; do
	[ -e "$root/lib/$library" ] || cp -L "$(ldconfig -p | sed -n "s/.*$library .*=> \(.*\)/\1/p" | head -n 1)" "$root/lib/"
done
cp "$unpacked/bin/busybox" "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do
	# busybox has an ip and a ping of its own, which can do too little.
	case $applet in ip | ping | tc | busybox) continue ;; esac
	ln -s busybox "$root/bin/$applet"
done
ln -s ../bin/busybox "$root/sbin/modprobe"

# The modules with all they depend on. What is built into the kernel is not there, which is fine.
ln -s kmod "$unpacked/bin/depmod"
"$unpacked/bin/depmod" -b "$unpacked" "$release"
modules=$unpacked/lib/modules/$release
mkdir -p "$root/lib/modules/$release"
cp "$modules/modules.dep" "$modules/modules.alias" "$modules/modules.builtin" "$root/lib/modules/$release/"
for module in mac80211_hwsim veth sch_tbf ccm ctr cmac gcm crc32c_generic dummy_hcd g_serial usb_f_acm cdc_acm batman-adv \
	nf_tables nft_ct nft_tproxy nft_socket nft_fib_inet; do
	pattern=$(echo "$module" | sed 's/[-_]/[-_]/g')
	if grep -qE "/$pattern\.ko" "$modules/modules.builtin"; then continue; fi
	line=$(grep -E "/$pattern\.ko:" "$modules/modules.dep") || { echo "build.sh: no module $module" >&2; exit 1; }
	for file in $(echo "$line" | tr -d :); do
		mkdir -p "$root/lib/modules/$release/${file%/*}"
		cp "$modules/$file" "$root/lib/modules/$release/$file"
	done
done
cp "$(dirname "$0")/init" "$root/init"
chmod +x "$root/init"
rm -rf "$unpacked"
echo "$stamp" >"$out/stamp"
