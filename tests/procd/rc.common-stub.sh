#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# Stub of OpenWrt's /etc/rc.common, functions.sh and procd.sh for tests: calls an init script's functions in their
# order, and writes down what the script would tell procd, one line per call, arguments apart by `|`, to /tmp/procd.
# Configuration is read as the shell words it is written in, which is enough for files the tests write.

initscript=$1
action=$2
name=${initscript##*/}

record() {
	local line="$1"
	shift
	while [ $# -gt 0 ]; do
		line="$line|$1"
		shift
	done
	echo "$line" >>/tmp/procd
}

for stub in procd_open_service procd_close_service procd_open_instance procd_close_instance procd_set_param \
	procd_append_param procd_add_jail procd_add_jail_mount procd_add_jail_mount_rw procd_add_reload_trigger \
	procd_add_interface_trigger procd_add_reload_interface_trigger procd_add_restart_mount_trigger \
	procd_add_reload_mount_trigger procd_kill procd_send_signal; do
	eval "$stub() { record ${stub#procd_} \"\$@\"; }"
done

config_load() {
	sections='' section=''
	sh -n "/etc/config/$1" 2>/dev/null || return 0
	# shellcheck disable=SC1090 # the file of a test
	. "/etc/config/$1"
}
config() {
	section=${2:-cfg$(echo "$sections" | wc -w)}
	sections="$sections $section"
	eval "type_$section=\$1"
}
option() { eval "value_${section}_$1=\$2"; }
list() { eval "value_${section}_$1=\"\${value_${section}_$1:-}\${value_${section}_$1:+ }\$2\""; }
config_get() { eval "$1=\${value_${2}_$3:-\${4:-}}"; }
config_foreach() {
	local each
	for each in $sections; do
		eval "[ \"\$type_$each\" = \"$2\" ]" && "$1" "$each"
	done
	return 0
}
user_exists() { grep -qs "^$1:" /etc/passwd; }

start_service() { :; }
stop_service() { :; }
service_triggers() { :; }
service_stopped() { :; }

# shellcheck disable=SC1090 # the script under test
. "$initscript"

start() {
	procd_open_service "$name" "$initscript"
	start_service
	service_triggers
	procd_close_service
}

case $action in
start | boot | reload) start ;;
stop)
	stop_service
	procd_kill "$name"
	service_stopped
	;;
*)
	echo "rc.common-stub: unknown action $action" >&2
	exit 2
	;;
esac
