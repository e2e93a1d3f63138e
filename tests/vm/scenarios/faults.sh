# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash disable=SC2034,SC2154,SC2016,SC2317 # setup.sh comes before
# What belongs to a whole machine and so to no namespace: its clock is set by a day, ahead and back, while all three
# daemons work, and its table of tracked connections is full.
modules veth nf_tables nft_ct nft_tproxy nft_socket nft_fib_inet sch_tbf
mkdir -p /etc/config /tmp/.uci /tmp/www
two_routers
# path DEVICE NETWORK METRIC: joins r1 and r2, slowly.
path() {
	ip -n r1 link add "$1" type veth peer name "$1" netns r2
	for end in r1:1 r2:2; do
		ip -n "${end%:*}" addr add "$2.${end#*:}/24" dev "$1"
		ip -n "${end%:*}" link set "$1" up
	done
	ip -n r1 route add default via "$2.2" dev "$1" metric "$3"
	ip netns exec r2 tc qdisc replace dev "$1" root tbf rate 2mbit burst 8kb latency 100ms
}
path path-a 10.11.0 1
path path-b 10.12.0 2
# As a firewall does, it tracks what goes through r1 and what r1 itself begins.
ip netns exec r1 nft -f - <<-E
	table inet firewall {
		chain input { type filter hook input priority filter; ct state established,related accept; }
		chain forward { type filter hook forward priority filter; ct state established,related accept; }
	}
E
proxies path-a path-b
dd if=/dev/urandom of=/tmp/www/file bs=1M count=6 2>/dev/null
echo short >/tmp/www/short
ip netns exec host2 httpd -p 198.51.100.2:80 -h /tmp/www
# begin_transfer, end_transfer: one through the proxy that takes some 13 s.
begin_transfer() {
	rm -f /tmp/got
	ip netns exec host1 wget -q -O /tmp/got http://198.51.100.2/file &
	transfer=$!
	until_true '[ -s /tmp/got ]'
}
end_transfer() {
	wait $transfer || fail 'a transfer broke'
	cmp /tmp/www/file /tmp/got || fail 'another content'
	echo 'transferred all'
}
short() { ip netns exec host1 timeout 3 wget -q -O - http://198.51.100.2/short; }

uplink
icmp_rule
start_dynapoint
state online

cat >/tmp/grid <<-E
	repeat 4s
	at 2s dip 50 for 200ms
E
# Until the file is there nobody takes an alert; one that has waited for an hour is given up.
cat >/tmp/tell <<-E
	#!/bin/sh
	[ -e /tmp/told ] || exit 1
	cat >>/tmp/told
	echo >>/tmp/told
E
chmod +x /tmp/tell
cat >/etc/config/powquty <<-E
	config powquty 'powquty'
		option input 'simulator'
		option simulator_script '/tmp/grid'
		option powquty_event_path '/tmp/events'
		option exec_notification '1'
		option exec_command '/tmp/tell'
		option alert_window '0'
		option alert_expiry '1h'
E
powqutyd --log-to stderr 2>/tmp/powqutyd.log &
powqutyd=$!
events() { wc -l </tmp/events; }
# later COUNT: that many events have been written since.
later() {
	wanted=$(($(events) + $1))
	until_true '[ $(events) -ge $wanted ]'
}
until_true '[ -s /tmp/events ]'
later 1

phase 'a day ahead'
begin_transfer
date -s "@$(($(date +%s) + 86400))" >/dev/null
later 2
phase 'a day back'
date -s "@$(($(date +%s) - 86400))" >/dev/null
later 2
end_transfer
[ "$(paths_up)" = 2 ] || fail 'a path was lost'
touch /tmp/told
until_true '[ $(grep -c dip /tmp/told) -ge 6 ]'
cut -d, -f7,8 /tmp/events | tr ',' ' ' | sed 's/^/event /'
echo "told $(grep -c dip /tmp/told)"
kill -TERM $powqutyd
wait $powqutyd
echo "stopped $?"
sed -n 's/.* internet: \([a-z]*\) -> \([a-z]*\): .*/went \1-\2/p' /tmp/dynapoint.log
# It has not stopped looking.
cut_uplink
state offline
mend_uplink
state online
stop_dynapoint

phase 'a full table of tracked connections'
begin_transfer
dmesg -c >/dev/null
sysctl -qw net.netfilter.nf_conntrack_max=1
short && fail 'the table was not full'
dmesg | grep -o 'nf_conntrack: table full' | head -n 1
usleep 5000000
[ "$(paths_up)" = 2 ] || fail 'a path was lost while the table was full'
sysctl -qw net.netfilter.nf_conntrack_max=65536
freed=$(seconds)
until_true '[ "$(short)" = short ]'
echo "again $(($(seconds) - freed))"
until_true '[ $(paths_up) = 2 ]'
end_transfer
phase 'end'
exit 0
