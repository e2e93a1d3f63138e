# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash disable=SC2154,SC2016,SC2317 # setup.sh comes before
# host1 - r1 =(Wi-Fi)= r2 - host2: two routers joined by two radios each, and mptcp-proxy on both.
radios 4
modules veth nf_tables nft_tproxy nft_socket nft_fib_inet sch_tbf
for name in host1 r1 r2 host2; do
	ip netns add $name
	ip -n $name link set lo up
done
for name in host1 host2; do ip netns exec $name sysctl -qw net.mptcp.enabled=0; done
for name in r1 r2; do
	ip netns exec $name sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
done
join() {
	ip -n "$1" link add eth0 type veth peer name lan netns "$2"
	ip -n "$1" addr add "$3.2/24" dev eth0
	ip -n "$2" addr add "$3.1/24" dev lan
	ip -n "$1" link set eth0 up
	ip -n "$2" link set lan up
	ip -n "$1" route add default via "$3.1"
}
join host1 r1 10.1.0
join host2 r2 198.51.100
ip -n r2 addr add 203.0.113.2/32 dev lo

phase 'two Wi-Fi links'
channel=1 bss phy0 wlan0 02:00:00:00:00:00 link-a 'open sesame'
channel=6 bss phy2 wlan2 02:00:00:00:02:00 link-b 'open sesame'
iw phy phy0 set netns name r2
iw phy phy2 set netns name r2
ip netns exec r2 hostapd -B /run/hostapd-phy0.conf /run/hostapd-phy2.conf >/tmp/hostapd.log || fail hostapd
station r1 phy1 wlan1 10.11.0.1/24 1 link-a 'open sesame'
station r1 phy3 wlan3 10.12.0.1/24 6 link-b 'open sesame'
ip -n r2 addr add 10.11.0.2/24 dev wlan0
ip -n r2 addr add 10.12.0.2/24 dev wlan2
ip -n r1 route add default via 10.11.0.2 dev wlan1 metric 1
ip -n r1 route add default via 10.12.0.2 dev wlan3 metric 2
# So slow that one link alone would not do.
for device in wlan0 wlan2; do
	ip netns exec r2 tc qdisc replace dev $device root tbf rate 10mbit burst 8kb latency 60ms
done

phase 'the proxies'
key=$(mptcp-proxy genkey)
mkdir -p /etc/r1 /etc/r2 /run/r1 /run/r2
cat >/etc/r2/mptcp-proxy <<E
config server 'vps'
config user 'r1'
	option server 'vps'
	option key '$key'
E
cat >/etc/r1/mptcp-proxy <<E
config client 'lan'
	list server 'vps'
	list device 'lan'
config upstream 'vps'
	option address '203.0.113.2'
	option key '$key'
config path 'a'
	option device 'wlan1'
config path 'b'
	option device 'wlan3'
E
proxy() {
	router=$1
	shift
	ip netns exec "$router" mptcp-proxy -c "/etc/$router" --state-dir "/tmp/.uci-$router" --run-dir "/run/$router" "$@"
}
proxy r2 --log-to stderr 2>/tmp/r2.log &
proxy r1 --log-to stderr 2>/tmp/r1.log &
paths() { proxy r1 status --json | tr '{' '\n' | grep '"device":"wlan' | grep -c '"state":"up"'; }
until_true '[ $(paths) = 2 ]'

phase 'the transfer'
mkdir /tmp/www
dd if=/dev/urandom of=/tmp/www/file bs=1M count=8 2>/dev/null
ip netns exec host2 httpd -p 198.51.100.2:80 -h /tmp/www
received() { ip netns exec r1 cat "/sys/class/net/$1/statistics/rx_bytes"; }
a=$(received wlan1) b=$(received wlan3) begin=$(cut -d' ' -f1 /proc/uptime)
ip netns exec host1 wget -q -O /tmp/got http://198.51.100.2/file || fail 'no transfer'
end=$(cut -d' ' -f1 /proc/uptime)
cmp /tmp/www/file /tmp/got || fail 'another content'
echo "transfer $begin $end $(($(received wlan1) - a)) $(($(received wlan3) - b))"
# Nothing but the proxy leads from one host to the other.
ip netns exec host1 ping -c 1 -W 1 198.51.100.2 >/dev/null && fail 'the hosts reach each other without the proxy'
phase 'end'
exit 0
