# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash disable=SC2154,SC2016,SC2317 # setup.sh comes before
# host1 - r1 =(Wi-Fi)= r2 - host2: two routers joined by two radios each, and mptcp-proxy on both.
radios 4
modules veth nf_tables nft_tproxy nft_socket nft_fib_inet sch_tbf
two_routers

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
proxies wlan1 wlan3

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
