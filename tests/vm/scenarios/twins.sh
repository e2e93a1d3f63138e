# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash disable=SC2154,SC2016,SC2317 # setup.sh comes before
# Access points that come and go, since their security does not let one stand in for the other: on phy0 beside a private
# one with a client (REMOVE, ADD), on phy2 with nothing else on the radio (the first BSS: STOP_AP).
radios 4
uplink
bss phy0 wlan0 02:00:00:00:00:00 private
bss phy0 wlan0_1 02:00:00:00:00:01 freifunk
bss phy0 wlan0_2 02:00:00:00:00:02 maintenance 'open sesame'
bss phy2 wlan2 02:00:00:00:02:00 freifunk-2
bss phy2 wlan2_1 02:00:00:00:02:01 maintenance-2 'open sesame'
start_hostapd
ip addr add 10.1.0.1/24 dev wlan0
ip link set wlan3 up
point private radio0 wlan0 private ''
point online radio0 wlan0_1 freifunk internet
point offline radio0 wlan0_2 maintenance '!internet' 'open sesame'
point online2 radio1 wlan2 freifunk-2 internet
point offline2 radio1 wlan2_1 maintenance-2 '!internet' 'open sesame'
icmp_rule
station client phy1 wlan1 10.1.0.2/24 6 private
heard wlan3 'freifunk freifunk-2 maintenance maintenance-2 private'
pings client 10.1.0.1
start_dynapoint
heard wlan3 'freifunk freifunk-2 private'
phase 'switches'
air 10 up up0 maintenance freifunk || fail air
cut_uplink
heard wlan3 'maintenance maintenance-2 private'
phase 'killed while offline'
kill -KILL "$daemon"
wait "$daemon"
start_dynapoint
mend_uplink
heard wlan3 'freifunk freifunk-2 private'
stop_dynapoint
heard wlan3 'freifunk freifunk-2 maintenance maintenance-2 private'
pings_end
echo "disconnects $(grep -c CTRL-EVENT-DISCONNECTED /tmp/wlan1.log)"
grep -c ': add as' /tmp/dynapoint.log | sed 's/^/added /'
grep -c ': remove' /tmp/dynapoint.log | sed 's/^/removed /'
grep -c ': off the air' /tmp/dynapoint.log | sed 's/^/silenced /'
phase 'end'
exit 0
