# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash disable=SC2154,SC2016,SC2317 # setup.sh comes before
# A batman-adv mesh of two nodes, this one and a gateway, first with BATMAN_IV (TQ), then with BATMAN_V (throughput): the
# link gets worse and better, and the rule follows with hysteresis.
modules veth batman-adv
mkdir -p /etc/config /tmp/.uci

gateway() { ip netns exec gateway batctl meshif bat0 "$@"; }
mesh() {
	echo "$1" >/sys/module/batman_adv/parameters/routing_algo
	ip netns add gateway
	ip link add m0 type veth peer name m0 netns gateway
	for node in '' '-n gateway'; do
		# shellcheck disable=SC2086 # no word, or two
		ip $node link add bat0 type batadv
		# shellcheck disable=SC2086
		ip $node link set m0 master bat0
		# shellcheck disable=SC2086
		ip $node link set m0 up
		# shellcheck disable=SC2086
		ip $node link set bat0 up
	done
	batctl meshif bat0 orig_interval 100
	gateway orig_interval 100
	gateway gw_mode server
	echo "$1: this node's gw_mode is $(batctl meshif bat0 gw_mode)"
}

# follows WORST MIDDLE BEST: the rule under three qualities, which `quality` sets.
follows() {
	start_dynapoint
	quality "$3"
	state online
	batctl meshif bat0 gw_mode client
	until_true 'batctl meshif bat0 gwl | grep -q "^[*=]"'
	quality "$2"
	state degraded
	quality "$1"
	state offline
	quality "$2"
	# Between the limits what failed stays failed.
	until_true "dynapoint status --json | grep -q 'quality ${between}[0-9.]* of the best gateway'"
	usleep 1500000
	dynapoint status --json | grep -q '"state":"offline"' || fail 'no hysteresis'
	quality "$3"
	state online
	gateway gw_mode off
	until_true 'dynapoint status --json | grep -q "no gateway in the mesh"'
	state offline
	stop_dynapoint
	sed -n 's/.* mesh: \([a-z]*\) -> \([a-z]*\): .*/went \1-\2/p' /tmp/dynapoint.log
	rm /tmp/dynapoint.log
	ip link del bat0
	ip link del m0
	ip netns del gateway
}

rule() {
	cat >/etc/config/dynapoint <<-E
		config rule 'mesh'
			option interval '300ms'
			option offline_threshold '2'
		config check 'gateway'
			option type 'batman'
			option target 'bat0'
			option lower_limit '$1'
			option upper_limit '$2'
	E
}

phase 'BATMAN_IV'
mesh BATMAN_IV
rule 80 160
quality() { batctl hardif m0 hop_penalty "$1"; }
between=1
follows 230 130 0

phase 'BATMAN_V'
mesh BATMAN_V
batctl hardif m0 elp_interval 100
rule 4 12
quality() { batctl hardif m0 throughput_override "$1"; }
between='[4-9]'
follows 1mbit 8mbit 50mbit
phase 'end'
exit 0
