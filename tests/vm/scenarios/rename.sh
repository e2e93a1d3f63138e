# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash disable=SC2154,SC2016,SC2317 # setup.sh comes before
# One BSS that changes its name beside a private one whose client pings all the time: 100 switches; then one with WPA2,
# a daemon that is killed, a hostapd that starts anew.
radios 4
uplink
bss phy0 wlan0 02:00:00:00:00:00 private
bss phy0 wlan0_1 02:00:00:00:00:01 freifunk
bss phy0 wlan0_2 02:00:00:00:00:02 secure 'open sesame'
start_hostapd
ip addr add 10.1.0.1/24 dev wlan0
ip link set wlan3 up
point private radio0 wlan0 private ''
point online radio0 wlan0_1 freifunk internet
point offline radio0 - offline '!internet'
icmp_rule
station client phy1 wlan1 10.1.0.2/24 6 private
start_dynapoint
state online
phase 'switches'
pings client 10.1.0.1
air 50 up up0 offline freifunk || fail air
pings_end
sed -n 's/.*rename to .*(\([0-9.]*\) ms, \([0-9.]*\) ms after the event.*/apply \1 \2/p' /tmp/dynapoint.log

phase 'a name with a key'
point secure radio0 wlan0_2 secure internet 'open sesame'
point closed radio0 - closed '!internet' 'open sesame'
kill -HUP "$daemon"
cut_uplink
heard wlan3 'closed offline private'
station guest phy2 wlan2 10.2.0.2/24 6 closed 'open sesame' secure
mend_uplink
heard wlan3 'freifunk private secure'
until_true '[ $(grep -c CTRL-EVENT-CONNECTED /tmp/wlan2.log) -ge 2 ]'
echo "wrong keys $(grep -c WRONG_KEY /tmp/wlan2.log)"

phase 'killed while offline'
cut_uplink
heard wlan3 'closed offline private'
kill -KILL "$daemon"
wait "$daemon"
mend_uplink
heard wlan3 'closed offline private'
start_dynapoint
heard wlan3 'freifunk private secure'
echo "disconnects $(grep -c CTRL-EVENT-DISCONNECTED /tmp/wlan1.log)"

phase 'hostapd starts anew while offline'
cut_uplink
heard wlan3 'closed offline private'
killall hostapd
until_true '! pidof hostapd'
start_hostapd
heard wlan3 'closed offline private'
stop_dynapoint
heard wlan3 'freifunk private secure'
phase 'end'
exit 0
