// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require form';
'require rpc';
'require uci';
'require tools.widgets as widgets';
'require dynapoint.common as dynapoint';
'require steadynode.daemon as daemon';
'require steadynode.fields as fields';

const { put, number, integer, duration, path } = fields;

const test = daemon.calls(rpc.declare({ object: 'dynapoint', method: 'alert_test', params: ['sink'] }));

const FAMILIES = [['any', _('any: one that fails is degraded')], ['both', _('both')], ['ipv4', 'IPv4'], ['ipv6', 'IPv6']];

const TYPES = {
	http: 'HTTP', https: _('HTTPS (package dynapoint-tls)'), dns: 'DNS', icmp: _('ping'), tcp: _('TCP connection'),
	route: _('default route'), carrier: _('carrier of an interface'), neighbour: _('gateway answers'), batman: _('batman-adv gateway'), script: _('program'),
};

const policy = fields.given((text) => ['any', 'all'].includes(text) || integer(1, 1000)(null, text) === true || _('Expected: any, all or how many checks must pass'));

/** `204`, `200-299`, several with commas or blanks. */
const statuses = fields.given((text) => text.split(',').join(' ').split(' ').filter(Boolean).every((part) => {
	const limits = part.split('-');
	return limits.length <= 2 && limits.every((limit) => integer(100, 599)(null, limit) === true && limit !== '');
}) || _('Expected: status codes such as 204 or 200-299'));

const globals = (map) => {
	const s = fields.globals(map);
	put(s, 'general', form.Flag, 'enabled', _('Enabled'), _('Off: no checks, and no access point is touched.'), { default: '1' });
	put(s, 'general', form.Value, 'boot_delay', _('Delay after boot'), _('So long the access points are left alone.'), { placeholder: '0s', validate: duration('0s', '1d') });
	put(s, 'general', form.ListValue, 'keep_ap', _('Always on'), _('A network that is never switched off, so that you always get in.'), {
		choices: [['', _('none')], ...uci.sections('wireless', 'wifi-iface').map((section) => [section['.name'], `${section['.name']} (${section.ssid ?? '?'})`])],
	});
	put(s, 'general', form.Value, 'hook', _('Hook'), _('Program to run on every change; scripts in /etc/hotplug.d/dynapoint are run as well.'), { placeholder: '/usr/local/bin/on-change', validate: path });
	fields.alerts(s, { test, kinds: ['offline', 'portal', 'recovered', 'flapping'] });
};

const rules = (map) => {
	const s = map.section(form.GridSection, 'rule', _('Rules'), _('A rule watches the way to the Internet. Access points name it on the page “Access points”.'));
	s.addremove = true;
	s.anonymous = false;
	s.nodescriptions = true;
	s.modaltitle = (section_id) => _('Rule %s').format(section_id);
	s.tab('general', _('General'));
	s.tab('times', _('Times'));
	s.tab('verdict', _('Verdict'));
	s.tab('name', _('Name of the network'));

	put(s, 'general', form.Flag, 'enabled', _('Enabled'), _('Off: the rule has no verdict.'), { default: '1' });
	put(s, 'general', form.DynamicList, 'hosts', _('Addresses'), _('What is asked, in this order. A name without http:// is asked by HTTP.'), { placeholder: 'http://connectivitycheck.gstatic.com/generate_204' });
	put(s, 'general', widgets.NetworkSelect, 'interface', _('Interface'), _('Whose link counts and through which the checks go. Default: the default routes, whatever they are.'), { modalonly: true, optional: true, nocreate: true });
	put(s, 'general', form.ListValue, 'link_loss', _('When the link is lost'), _('Immediate changes names within a quarter of a second, but also when your provider reconnects at night.'), {
		modalonly: true, default: 'probe', choices: [['probe', _('check at once')], ['immediate', _('offline immediately')], ['ignore', _('wait for the next check')]],
	});
	put(s, 'general', form.Flag, 'use_curl', _('Bind to a device'), _('As ever, only then the device below counts (no curl is needed).'), { modalonly: true });
	put(s, 'general', form.Value, 'curl_interface', _('Device'), _('Through which the addresses are asked.'), { modalonly: true, placeholder: 'eth0', when: { use_curl: '1' } });

	put(s, 'times', form.Value, 'interval', _('Interval'), _('From one round to the next while all is well.'), { placeholder: '60', validate: duration('200ms', '1d') });
	put(s, 'times', form.Value, 'retry_interval', _('Interval in doubt'), _('While a verdict is in doubt. Default: as the interval.'), { modalonly: true, validate: duration('200ms', '1d') });
	put(s, 'times', form.Value, 'max_interval', _('Longest interval'), _('While nothing changes the interval may grow up to this. Default: as the interval.'), { modalonly: true, validate: duration('200ms', '1d') });
	put(s, 'times', form.Value, 'timeout', _('Time-out'), _('What a check may take, name resolution included.'), { modalonly: true, placeholder: '5', validate: duration('50ms', '5m') });
	put(s, 'times', form.Value, 'jitter', _('Jitter (%)'), _('Rounds come early by up to so much, at random, so that many routers do not ask in step.'), { modalonly: true, placeholder: '0', validate: integer(0, 50) });
	put(s, 'times', form.Value, 'hold_time', _('Hold time'), _('A state is kept at least so long.'), { modalonly: true, placeholder: '0s', validate: duration('0s', '1d') });
	put(s, 'times', form.Value, 'flap_damping', _('Flap damping'), _('After repeated drops it takes so much longer, doubling, to go back.'), { modalonly: true, placeholder: '0s', validate: duration('0s', '1h') });
	put(s, 'times', form.Value, 'client_grace', _('Grace for clients'), _('Who is associated keeps the access point for so long after the verdict.'), { modalonly: true, placeholder: '0s', validate: duration('0s', '1d') });

	put(s, 'verdict', form.Value, 'offline_threshold', _('Failed rounds'), _('In a row, until the rule goes offline.'), { placeholder: '3', validate: integer(1, 1000) });
	put(s, 'verdict', form.Value, 'online_threshold', _('Passed rounds'), _('In a row, until the rule goes online.'), { modalonly: true, placeholder: '1', validate: integer(1, 1000) });
	put(s, 'verdict', form.Value, 'policy', _('Checks that must pass'), _('any, all or a number.'), { modalonly: true, placeholder: 'any', validate: policy });
	put(s, 'verdict', form.ListValue, 'family', _('Address families'), _('Those that must work; with any, a family without a default route does not count.'), { modalonly: true, default: 'any', choices: FAMILIES });
	put(s, 'verdict', form.ListValue, 'portal', _('A captive portal counts as'), _('Separate: then only conditions that name the portal hold.'), {
		modalonly: true, default: 'offline', choices: [['offline', _('offline')], ['online', _('online')], ['separate', _('separate')]],
	});
	put(s, 'verdict', form.Value, 'expect_status', _('Expected status'), _('Of the answers. Default: 204 where the name says so, else any success.'), { modalonly: true, placeholder: '200-299', validate: statuses });
	put(s, 'verdict', form.Value, 'expect_body', _('Expected text'), _('Must be in the answer.'), { modalonly: true });

	put(s, 'name', form.Value, 'ssid_template', _('Template'), _('For networks that are on the air when something is wrong: %s configured name, %h host name, %m end of the MAC address.'), { modalonly: true, placeholder: '%s (%h)' });
	put(s, 'name', form.Flag, 'add_hostname_to_ssid', _('Append the host name'), _('The same as the template %s_%h.'), { modalonly: true });
};

const checks = (map) => {
	const s = map.section(form.GridSection, 'check', _('Further checks'), _('Of a rule, besides its addresses.'));
	s.addremove = true;
	s.anonymous = true;
	s.sortable = true;
	s.nodescriptions = true;
	s.modaltitle = () => _('Check');

	put(s, null, form.ListValue, 'rule', _('Rule'), _('To which it belongs.'), {
		choices: uci.sections('dynapoint', 'rule').map((section) => [section['.name'], section['.name']]),
	});
	put(s, null, form.ListValue, 'type', _('Type'), _('What is tried.'), { default: 'http', choices: Object.entries(TYPES) });
	put(s, null, form.Value, 'target', _('Target'), _('Address, name, device (batman-adv) or program.'), { placeholder: 'example.org' });
	put(s, null, form.Value, 'port', _('Port'), _('If it is not the usual one.'), { modalonly: true, datatype: 'port' });
	put(s, null, form.Value, 'resolver', _('Resolver'), _('Address of the server to ask. Default: the system’s.'), { modalonly: true, placeholder: '9.9.9.9', when: { type: 'dns' } });
	put(s, null, form.Value, 'expect_status', _('Expected status'), _('Of the answer.'), { modalonly: true, validate: statuses });
	put(s, null, form.Value, 'expect_body', _('Expected text'), _('Must be in the answer.'), { modalonly: true });
	put(s, null, widgets.NetworkSelect, 'interface', _('Interface'), _('Default: as the rule.'), { modalonly: true, optional: true, nocreate: true });
	put(s, null, form.ListValue, 'family', _('Address families'), _('Default: as the rule.'), { modalonly: true, choices: [['', _('as the rule')], ...FAMILIES] });
	put(s, null, form.Value, 'lower_limit', _('Lower limit'), _('Quality below which it has failed.'), { modalonly: true, placeholder: '35', validate: number(0, 1e6), when: { type: 'batman' } });
	put(s, null, form.Value, 'upper_limit', _('Upper limit'), _('Quality above which it has passed; between the two it stays as before, and degraded.'), { modalonly: true, placeholder: '45', validate: number(0, 1e6), when: { type: 'batman' } });
	put(s, null, form.Value, 'timeout', _('Time-out'), _('Default: as the rule.'), { modalonly: true, validate: duration('50ms', '5m') });
};

return view.extend({
	// There are routers without wireless.
	load: () => Promise.all([uci.load('dynapoint'), L.resolveDefault(uci.load('wireless'), null)]),

	render: () => {
		const map = new form.Map('dynapoint', _('Rules and checks'), _('Which networks are on the air depends on what these rules find.'));
		globals(map);
		rules(map);
		checks(map);

		return fields.settings(map, dynapoint.calls.status, dynapoint.banner());
	},
});
