# SPDX-License-Identifier: Apache-2.0
# What the scenarios of the machine have in common (busybox sh): radios, access points, clients, an uplink, two routers.
# shellcheck shell=dash disable=SC2016,SC2034 # conditions are expanded by until_true; variables are the scenarios'
set -u
# busybox prefers its own, which can do too little.
ip() { /usr/sbin/ip "$@"; }
ping() { /usr/sbin/ping "$@"; }

fail() {
	echo "@@ fail: $*"
	for log in /tmp/*.log; do
		echo "@@ $log"
		tail -n 30 "$log"
	done
	exit 1
}

seconds() { cut -d. -f1 /proc/uptime; }
# until_true COMMAND: tries it until it succeeds, for 40 s.
until_true() {
	give_up=$(($(seconds) + 40))
	while ! eval "$1" >/dev/null 2>&1; do
		[ "$(seconds)" -lt $give_up ] || fail "never: $1"
		usleep 100000
	done
}

# phase NAME: what begins now, and when.
phase() { echo "@@ $(cut -d' ' -f1 /proc/uptime) s: $1"; }

# modules NAME...: loads them. libcrc32c asks for its algorithm by a name that busybox's modprobe does not know.
modules() {
	modprobe crc32c_generic
	for module in "$@"; do modprobe "$module" || fail "module $module"; done
}

# radios COUNT: phy0, phy1, ... with wlan0, wlan1, ...
radios() {
	modprobe mac80211_hwsim radios="$1" || fail "mac80211_hwsim"
	modules ccm ctr cmac gcm
	ip link set hwsim0 up
	mkdir -p /run/hostapd /etc/config /tmp/.uci
}

# uplink: device wan, and the Internet's only host behind it in namespace up.
uplink() {
	modules veth
	ip netns add up
	ip link add wan type veth peer name up0 netns up
	ip -n up link set up0 up
	ip -n up addr add 10.9.0.2/24 dev up0
	ip link set wan up
	ip addr add 10.9.0.1/24 dev wan
	ip route add default via 10.9.0.2
}
cut_uplink() { ip -n up link set up0 down; }
mend_uplink() { ip -n up link set up0 up; }

# bss PHY DEVICE BSSID SSID [KEY]: one more in the configuration of that radio, channel $channel (6).
bss() {
	config=/run/hostapd-$1.conf word=bss
	if [ ! -e "$config" ]; then
		printf 'driver=nl80211\nhw_mode=g\nchannel=%s\n' "${channel:-6}" >"$config"
		word=interface
	fi
	printf '%s=%s\nctrl_interface=/run/hostapd\nbssid=%s\nssid=%s\n' $word "$2" "$3" "$4" >>"$config"
	if [ -n "${5:-}" ]; then
		printf 'wpa=2\nwpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nwpa_passphrase=%s\n' "$5" >>"$config"
	fi
}
start_hostapd() { hostapd -B -g /run/hostapd/global /run/hostapd-*.conf >/tmp/hostapd.log || fail hostapd; }

# point SECTION RADIO DEVICE SSID RULE [KEY]: a wifi-iface; DEVICE '-': it is disabled and has none.
point() {
	{
		printf "config wifi-iface '%s'\n\toption device '%s'\n\toption ssid '%s'\n" "$1" "$2" "$4"
		if [ "$3" = - ]; then echo "	option disabled '1'"; else echo "	option ifname '$3'"; fi
		[ -z "$5" ] || echo "	option dynapoint_rule '$5'"
		[ -z "${6:-}" ] || printf "\toption encryption 'psk2'\n\toption key '%s'\n" "$6"
	} >>/etc/config/wireless
}

# station NAMESPACE PHY DEVICE ADDRESS CHANNEL SSID [KEY] [OTHER_SSID]: a client in that namespace, associated.
station() {
	ip netns add "$1" 2>/dev/null
	iw phy "$2" set netns name "$1"
	echo 'ctrl_interface=/run/wpa' >"/tmp/$3.conf"
	key='key_mgmt=NONE'
	[ -z "${7:-}" ] || key="psk=\"$7\""
	for name in "$6" ${8:-}; do
		printf 'network={\nssid="%s"\n%s\nscan_freq=%s\n}\n' "$name" "$key" $((2407 + 5 * $5)) >>"/tmp/$3.conf"
	done
	ip netns exec "$1" wpa_supplicant -B -i "$3" -f "/tmp/$3.log" -t -c "/tmp/$3.conf" >/dev/null
	until_true "grep -q CTRL-EVENT-CONNECTED /tmp/$3.log"
	ip netns exec "$1" ip addr add "$4" dev "$3"
}

# on_air DEVICE: the names on the air on channel 6, sorted, as that radio hears them. `iw` waits for ever for the end of a
# scan it was not told of.
on_air() { timeout 10 iw dev "$1" scan freq 2437 flush | sed -n 's/^\tSSID: //p' | sort | tr '\n' ' '; }
# heard DEVICE NAMES: waits until exactly these are on the air.
heard() { until_true "[ \"\$(on_air $1)\" = \"$2 \" ]"; }

start_dynapoint() {
	dynapoint --log-to stderr 2>>/tmp/dynapoint.log &
	daemon=$!
}
# state WORD: waits for that state of the rule.
state() { until_true "dynapoint status --json | grep -q '\"state\":\"$1\"'"; }
stop_dynapoint() {
	kill -TERM "$daemon"
	wait "$daemon"
	echo "stopped $?"
	find /tmp/.uci -type f | sed 's/^/@@ left behind: /'
}

# icmp_rule: rule `internet`, judged by the host behind the uplink.
icmp_rule() {
	cat >/etc/config/dynapoint <<-E
		config rule 'internet'
			option interval '5'
			option retry_interval '1'
			option timeout '1'
			option link_loss 'immediate'
		config check 'upstream'
			option type 'icmp'
			option target '10.9.0.2'
	E
}

# pings NAMESPACE ADDRESS / pings_end: what is lost meanwhile.
pings() {
	until_true "ip netns exec $1 ping -c 1 -W 1 $2"
	ip netns exec "$1" ping -i 0.05 -q "$2" >/tmp/ping.log &
}
pings_end() {
	killall -INT ping
	until_true 'grep -q transmitted /tmp/ping.log'
	grep 'packets transmitted' /tmp/ping.log
}

# two_routers: host1 - r1, r2 - host2, namespaces; hosts without MPTCP, the web host at 198.51.100.2.
two_routers() {
	for name in host1 r1 r2 host2; do
		ip netns add $name
		ip -n $name link set lo up
	done
	for name in host1 host2; do ip netns exec $name sysctl -qw net.mptcp.enabled=0; done
	for name in r1 r2; do
		ip netns exec $name sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
	done
	host_behind host1 r1 10.1.0
	host_behind host2 r2 198.51.100
	ip -n r2 addr add 203.0.113.2/32 dev lo
}
# host_behind HOST ROUTER NETWORK: joins them, device lan at the router.
host_behind() {
	ip -n "$1" link add eth0 type veth peer name lan netns "$2"
	ip -n "$1" addr add "$3.2/24" dev eth0
	ip -n "$2" addr add "$3.1/24" dev lan
	ip -n "$1" link set eth0 up
	ip -n "$2" link set lan up
	ip -n "$1" route add default via "$3.1"
}
proxy() {
	router=$1
	shift
	ip netns exec "$router" mptcp-proxy -c "/etc/$router" --state-dir "/tmp/.uci-$router" --run-dir "/run/$router" "$@"
}
paths_up() { proxy r1 status --json | tr '{' '\n' | grep '"device":"' | grep -c '"state":"up"'; }
# proxies DEVICE DEVICE: mptcp-proxy on both routers, with these two of r1 as paths, which are up.
proxies() {
	key=$(mptcp-proxy genkey)
	mkdir -p /etc/r1 /etc/r2 /run/r1 /run/r2
	cat >/etc/r2/mptcp-proxy <<-E
		config server 'vps'
		config user 'r1'
			option server 'vps'
			option key '$key'
	E
	cat >/etc/r1/mptcp-proxy <<-E
		config client 'lan'
			list server 'vps'
			list device 'lan'
		config upstream 'vps'
			option address '203.0.113.2'
			option key '$key'
		config path 'a'
			option device '$1'
		config path 'b'
			option device '$2'
	E
	proxy r2 --log-to stderr 2>/tmp/r2.log &
	proxy r1 --log-to stderr 2>/tmp/r1.log &
	until_true '[ $(paths_up) = 2 ]'
}
