// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require form';
'require rpc';
'require uci';
'require ui';
'require tools.widgets as widgets';
'require mptcp-proxy.common as proxy';
'require steadynode.page as page';
'require steadynode.daemon as daemon';
'require steadynode.fields as fields';

const { el } = page;
const { put, integer, duration, path } = fields;

const test = daemon.calls(rpc.declare({ object: 'mptcp-proxy', method: 'alert_test', params: ['sink'] }));

/** Bytes of a key. */
const KEY_BYTES = 32;

const keyBytes = (text) => {
	try {
		return atob(text).length;
	} catch {
		return 0;
	}
};

const key = fields.given((text) => keyBytes(text) === KEY_BYTES || _('Expected: 32 bytes of base64'));

const mark = fields.given((text) => {
	const value = Number(text);
	return (Number.isInteger(value) && value > 0 && value <= 0x80000000 && Number.isInteger(Math.log2(value))) || _('Expected: one bit, such as 0x1000000');
});

const ports = fields.given((text) => {
	const limits = text.split('-');
	const fits = limits.length <= 2 && limits.every((limit) => limit !== '' && integer(1, 65535)(null, limit) === true);
	return (fits && Number(limits[0]) <= Number(limits[limits.length - 1])) || _('Expected: a port or a range such as 5060-5061');
});

const showKey = () => {
	const bytes = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
	const text = btoa(String.fromCharCode(...bytes));
	ui.showModal(_('A new key'), [
		el('p', {}, _('Put it into the server’s section on the client and into the user’s section on the server. It is shown only now.')),
		el('p', {}, el('input', { type: 'text', readonly: '', 'class': 'cbi-input-text', 'aria-label': _('Key'), value: text, style: 'width:100%', focus: (event) => event.target.select() })),
		el('div', { 'class': 'right' }, page.button(_('Close'), () => ui.hideModal(), 'neutral')),
	]);
};

const named = (map, type, title, help, modaltitle) => {
	const s = map.section(form.GridSection, type, title, help);
	s.addremove = true;
	s.anonymous = false;
	s.nodescriptions = true;
	s.modaltitle = modaltitle;
	return s;
};

const globals = (map) => {
	const s = fields.globals(map);
	put(s, 'general', form.Flag, 'enabled', _('Enabled'), _('Off: nothing is taken and nothing is served.'), { default: '1' });
	put(s, 'general', form.Button, '_key', _('Key'), _('Both ends of a tunnel have the same key.'), { inputtitle: _('Make a key'), inputstyle: 'action', onclick: showKey });
	put(s, 'general', form.Value, 'packet_pool', _('Addresses for other protocols'), _('Network of which the server half gives each client one.'), { datatype: 'cidr4', placeholder: '100.127.88.0/24' });
	put(s, 'general', form.Value, 'packet_pool6', _('IPv6 addresses for other protocols'), _('The same for IPv6.'), { datatype: 'cidr6', placeholder: 'fd6d:7074:6370::/64' });
	fields.alerts(s, { test, kinds: ['path_lost', 'path_returned', 'server_lost', 'server_returned', 'mptcp_stripped'] });
};

const clients = (map) => {
	const s = named(map, 'client', _('Client'), _('Takes the TCP connections of the LAN and carries them to a server over every path at once.'), (name) => _('Client %s').format(name));
	s.tab('general', _('General'));
	s.tab('bypass', _('Bypass'));
	s.tab('advanced', _('Advanced'));
	put(s, 'general', form.Flag, 'enabled', _('Enabled'), _('Needs a server with a key.'), { default: '1' });
	put(s, 'general', form.DynamicList, 'server', _('Servers'), _('In order of priority: the first that answers gets new connections.'), {
		choices: uci.sections('mptcp-proxy', 'upstream').map((section) => [section['.name'], section['.name']]),
	});
	put(s, 'general', form.ListValue, 'mode', _('Mode'), _('TPROXY needs kmod-nft-tproxy and kmod-nft-socket.'), {
		default: 'tproxy', choices: [['tproxy', _('transparent (TPROXY)')], ['redirect', _('transparent (REDIRECT)')], ['socks', _('SOCKS5 on this router')]],
	});
	put(s, 'general', widgets.NetworkSelect, 'interface', _('Interfaces'), _('Whose traffic is taken.'), { multiple: true, optional: true, nocreate: true });
	put(s, 'general', form.DynamicList, 'zone', _('Firewall zones'), _('Whose traffic is taken.'), {
		modalonly: true, choices: uci.sections('firewall', 'zone').map((section) => [section.name, section.name]).filter(([name]) => name),
	});
	put(s, 'general', widgets.DeviceSelect, 'device', _('Devices'), _('Whose traffic is taken.'), { modalonly: true, multiple: true, optional: true, nocreate: true });
	put(s, 'general', form.ListValue, 'fallback', _('Without a server'), _('What happens to new connections while no server answers.'), {
		modalonly: true, default: 'direct', choices: [['direct', _('out by plain TCP')], ['block', _('refused')]],
	});
	put(s, 'general', form.Flag, 'udp', _('UDP'), _('Datagrams go to the server as well (TPROXY only): good for DNS, telephony and games, not for bulk such as QUIC.'), { modalonly: true, default: '1' });
	put(s, 'general', form.Flag, 'other_protocols', _('Other protocols'), _('Packets that are neither TCP nor UDP (ping, SCTP, GRE) go to the server as well, where it carries them. Needs kmod-tun and a firewall zone for the device mptcp0.'), { modalonly: true });
	put(s, 'general', form.Value, 'dns_port', _('DNS port'), _('Where dnsmasq may ask: names are resolved at the server, and by the uplink’s resolvers while none answers. 0: off.'), { modalonly: true, placeholder: '0', validate: integer(0, 65535) });
	put(s, 'bypass', form.DynamicList, 'bypass', _('Destinations'), _('Addresses and networks that are left alone. The networks of this router always are.'), { modalonly: true, datatype: 'or(cidr,ipaddr)', placeholder: '192.0.2.0/24' });
	put(s, 'bypass', form.DynamicList, 'bypass_port', _('Destination ports'), _('Ports or ranges that are left alone.'), { modalonly: true, validate: ports, placeholder: '5060-5061' });
	put(s, 'bypass', form.DynamicList, 'bypass_source', _('Hosts'), _('Of the LAN, that are left alone.'), { modalonly: true, datatype: 'or(cidr,ipaddr)', placeholder: '192.168.1.50' });
	put(s, 'bypass', form.DynamicList, 'bypass_domain', _('Domains'), _('That are left alone, with everything below them (needs dnsmasq-full).'), { modalonly: true, datatype: 'hostname', placeholder: 'bank.example' });
	put(s, 'advanced', form.Value, 'listen_port', _('Port of the listener'), _('Must not be the port of a server half on this router.'), { modalonly: true, datatype: 'port', placeholder: '1088' });
	put(s, 'advanced', form.Value, 'pool', _('Connections in advance'), _('Kept open and authenticated, at most; a new connection then costs one round trip.'), { modalonly: true, placeholder: '8', validate: integer(0, 64) });
	put(s, 'advanced', form.Value, 'congestion', _('Congestion control'), _('Of the tunnel. Default: the system’s.'), { modalonly: true, placeholder: 'cubic' });
	put(s, 'advanced', form.Value, 'max_connections_per_host', _('Connections per host'), _('At most; further ones are refused.'), { modalonly: true, placeholder: '1024', validate: integer(1, 1000000) });
	put(s, 'advanced', form.Value, 'idle_timeout', _('Idle time-out'), _('A connection without a byte is ended after this.'), { modalonly: true, placeholder: '2h', validate: duration('1m', '7d') });
	put(s, 'advanced', form.Value, 'half_open_timeout', _('Half-open time-out'), _('The same after one direction has ended.'), { modalonly: true, placeholder: '60', validate: duration('1s', '1d') });
	put(s, 'advanced', form.Value, 'udp_timeout', _('UDP time-out'), _('A socket of the LAN that neither sends nor receives for so long is forgotten.'), { modalonly: true, placeholder: '60', validate: duration('1s', '1d') });
	put(s, 'advanced', form.Value, 'resolv_file', _('Resolvers'), _('File that names the uplink’s resolvers, for the time no server answers.'), { modalonly: true, placeholder: '/tmp/resolv.conf.d/resolv.conf.auto', validate: path });
	put(s, 'advanced', form.Value, 'mark', _('Packet mark'), _('One bit, by which packets find the listener.'), { modalonly: true, placeholder: '0x1000000', validate: mark });
	put(s, 'advanced', form.Value, 'route_table', _('Routing table'), _('The first that the daemon uses; path n gets the n-th after it.'), { modalonly: true, placeholder: '10880', validate: integer(1000, 4294966295) });
};

const upstreams = (map) => {
	const s = named(map, 'upstream', _('Servers'), _('The other ends of the tunnel, as this router knows them.'), (name) => _('Server %s').format(name));
	put(s, null, form.Value, 'address', _('Address'), _('An IP address, because a name would have to be resolved before there is a tunnel.'), { datatype: 'ipaddr', placeholder: '203.0.113.2' });
	put(s, null, form.Value, 'port', _('Port'), _('TCP and UDP.'), { datatype: 'port', placeholder: '1088' });
	put(s, null, form.ListValue, 'encryption', _('Encryption'), _('None: only the set-up is authenticated; the payload is as readable as without a proxy.'), {
		default: 'aead', choices: [['aead', _('everything')], ['none', _('none')]],
	});
	put(s, null, form.Value, 'key', _('Key'), _('The same as in the user’s section on the server.'), { modalonly: true, password: true, validate: key });
};

const paths = (map) => {
	const s = named(map, 'path', _('Paths'), _('The ways to the servers. Without any, the interfaces with the option multipath are the paths.'), (name) => _('Path %s').format(name));
	put(s, null, widgets.NetworkSelect, 'interface', _('Interface'), _('Whose device and address are used.'), { optional: true, nocreate: true });
	put(s, null, widgets.DeviceSelect, 'device', _('Device'), _('Instead of an interface.'), { optional: true, nocreate: true, noaliases: true });
	put(s, null, form.ListValue, 'role', _('Role'), _('Connections begin on the master; a backup is used when no other path is left.'), {
		default: 'on', choices: [['master', _('master')], ['on', _('on')], ['backup', _('backup')], ['off', _('off')]],
	});
	put(s, null, form.Value, 'probe_interval', _('Probes'), _('Pace while there are connections.'), { modalonly: true, placeholder: '100ms', validate: duration('20ms', '1m') });
	put(s, null, form.Value, 'idle_probe_interval', _('Probes when idle'), _('Pace otherwise.'), { modalonly: true, placeholder: '10s', validate: duration('100ms', '1h') });
	put(s, null, form.Value, 'down_after', _('Down after'), _('Lost probes in a row.'), { modalonly: true, placeholder: '2', validate: integer(1, 100) });
	put(s, null, form.Value, 'up_after', _('Up after'), _('Answered probes in a row.'), { modalonly: true, placeholder: '3', validate: integer(1, 100) });
	put(s, null, form.Flag, 'source_routing', _('Routing table'), _('The daemon keeps one for the path where there is none.'), { modalonly: true, default: '1' });
};

const servers = (map) => {
	const s = named(map, 'server', _('Server half'), _('On the second router or a rented server; connects to the targets by plain TCP.'), (name) => _('Server half %s').format(name));
	put(s, null, form.Flag, 'enabled', _('Enabled'), _('Needs a user.'), { default: '1' });
	put(s, null, form.Value, 'listen', _('Listen on'), _('An address of this router; :: for all.'), { datatype: 'ipaddr', placeholder: '::' });
	put(s, null, form.Value, 'port', _('Port'), _('TCP and UDP have to be open in the firewall.'), { datatype: 'port', placeholder: '1088' });
	put(s, null, form.DynamicList, 'allow_target', _('Open targets'), _('Private networks that clients may reach; others are closed.'), { modalonly: true, datatype: 'or(cidr,ipaddr)', placeholder: '192.168.2.0/24' });
	put(s, null, form.DynamicList, 'deny_target', _('Closed targets'), _('Closed in any case.'), { modalonly: true, datatype: 'or(cidr,ipaddr)' });
	put(s, null, form.Value, 'max_connections', _('Connections'), _('At most; each takes about 20 kB of kernel memory.'), { modalonly: true, placeholder: '4096', validate: integer(1, 1000000) });
	put(s, null, form.Value, 'resolv_file', _('Resolvers'), _('File that names the resolvers that answer the clients’ questions.'), { modalonly: true, placeholder: '/tmp/resolv.conf.d/resolv.conf.auto', validate: path });
	put(s, null, form.Flag, 'proxy_protocol', _('PROXY protocol'), _('Tells targets the client’s address; only where the target expects it.'), { modalonly: true });
	put(s, null, form.Value, 'congestion', _('Congestion control'), _('Of the tunnel. Default: the system’s.'), { modalonly: true, placeholder: 'cubic' });
	put(s, null, form.Value, 'idle_timeout', _('Idle time-out'), _('A connection without a byte is ended after this.'), { modalonly: true, placeholder: '2h', validate: duration('1m', '7d') });
	put(s, null, form.Value, 'half_open_timeout', _('Half-open time-out'), _('The same after one direction has ended.'), { modalonly: true, placeholder: '60', validate: duration('1s', '1d') });
};

const users = (map) => {
	const s = named(map, 'user', _('Users'), _('Who may use the server half.'), (name) => _('User %s').format(name));
	put(s, null, form.ListValue, 'server', _('Server half'), _('For which the key is good.'), {
		choices: [['', _('all')], ...uci.sections('mptcp-proxy', 'server').map((section) => [section['.name'], section['.name']])],
	});
	put(s, null, form.Value, 'max_connections', _('Connections'), _('At most.'), { placeholder: '4096', validate: integer(1, 1000000) });
	put(s, null, form.Flag, 'other_protocols', _('Other protocols'), _('May send packets that are neither TCP nor UDP. Needs kmod-tun and a firewall zone for the device mptcp1.'), { modalonly: true });
	put(s, null, form.Value, 'key', _('Key'), _('The same as in the server’s section on the client.'), { modalonly: true, password: true, validate: key });
};

return view.extend({
	load: () => Promise.all([uci.load('mptcp-proxy'), L.resolveDefault(uci.load('firewall'), null)]),

	render: () => {
		const map = new form.Map('mptcp-proxy', _('MPTCP proxy'), _('A router may hold a client half, a server half or both. Open connections go on when settings are applied.'));
		globals(map);
		clients(map);
		upstreams(map);
		paths(map);
		servers(map);
		users(map);

		return fields.settings(map, proxy.calls.status, proxy.banner());
	},
});
