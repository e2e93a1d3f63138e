# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# Names for the oscilloscope and for GPS receivers that stay the same whatever number the kernel gives the tty:
#
#   /dev/WeSense0, /dev/WeSense1, …   a device keeps its number from one plugging to the next, until a reboot
#   /dev/WeSense-1-1.2                by the USB port it hangs on, for good: for routers with several of them
#   /dev/gps0, /dev/gps-1-1.2         likewise, receivers known to be nothing else

POWQUTY_TTY_MEMORY=/var/run/powquty-tty

# powquty_tty_add TTY: links it if it is a device we know. May be called again.
powquty_tty_add() (
	tty=$1
	device=$(powquty_usb_device "$tty") || exit 0
	kind=$(powquty_usb_kind "$device")
	[ -n "$kind" ] || exit 0
	powquty_tty_rights "/dev/$tty"

	# Events come one by one, but the init script looks as well.
	mkdir -p "$POWQUTY_TTY_MEMORY" /var/lock
	exec 9>/var/lock/powquty-tty.lock
	flock 9

	ln -sfn "$tty" "/dev/$kind-${device##*/}"
	for link in /dev/"$kind"[0-9]*; do
		[ "$(powquty_target "$link")" = "$tty" ] && exit 0
	done
	memory=$POWQUTY_TTY_MEMORY/$kind-$(powquty_identity "$device")
	number=$(cat "$memory" 2>/dev/null)
	if [ -z "$number" ] || [ -e "/dev/$kind$number" ]; then
		number=0
		while [ -e "/dev/$kind$number" ]; do number=$((number + 1)); done
	fi
	ln -sfn "$tty" "/dev/$kind$number"
	echo "$number" >"$memory"
	logger -t powqutyd -p daemon.info "/dev/$kind$number is $tty on USB port ${device##*/}"
)

# powquty_tty_remove TTY: takes its links away. The device itself is gone from /sys by now.
powquty_tty_remove() {
	local link
	for link in /dev/WeSense* /dev/gps*; do
		[ -L "$link" ] && [ "$(powquty_target "$link")" = "$1" ] && rm -f "$link"
	done
	return 0
}

# powquty_tty_rights PATH: OpenWrt makes devices that only root may write.
powquty_tty_rights() {
	[ -e "$1" ] || return 0
	grep -qs '^dialout:' /etc/group && chgrp dialout "$1" && chmod 0660 "$1"
	return 0
}

# The directory in /sys of the USB device a tty belongs to.
powquty_usb_device() {
	local path
	path=$(readlink -f "/sys/class/tty/$1/device") || return 1
	while [ -n "$path" ]; do
		if [ -f "$path/idVendor" ]; then
			echo "$path"
			return 0
		fi
		path=${path%/*}
	done
	return 1
}

powquty_usb_kind() {
	local id
	id=$(cat "$1/idVendor"):$(cat "$1/idProduct")
	case $id in
	1[aA][fF][eE]:0009) echo WeSense ;;
	# u-blox 4 to 9; MediaTek. Serial adapters, behind which there may be anything, are for gps_tty.
	1546:01[aA][4-9] | 0[eE]8[dD]:3329) echo gps ;;
	esac
}

# Its serial number, or else the port.
powquty_identity() {
	local identity
	identity=$(cat "$1/serial" 2>/dev/null)
	printf %s "${identity:-${1##*/}}" | tr -c 'A-Za-z0-9._-' _
}

powquty_target() {
	local target
	target=$(readlink "$1") && echo "${target##*/}"
}
