// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require form';
'require uci';
'require steadynode.page as page';
'require steadynode.daemon as daemon';
'require steadynode.fields as fields';

const { el } = page;
const { put } = fields;

const STATES = ['online', 'degraded', 'portal', 'offline', 'unknown', 'disabled'];

const condition = (names) => fields.given((text) => {
	const [rule, state, more] = text.replaceAll('!', '').split(':').map((part) => part.trim());
	if (!names.includes(rule))
		return _('There is no rule %s').format(rule);
	return (more === undefined && (state === undefined || STATES.includes(state)))
		|| _('Expected: RULE, !RULE or RULE:STATE with online, degraded, portal, offline, unknown or disabled');
});

/** A cell with text from the configuration: as text. */
const cell = (section, option, title) => {
	const shown = section.option(form.DummyValue, `_${option}`, title);
	shown.modalonly = false;
	shown.cfgvalue = (section_id) => uci.get('wireless', section_id, option) ?? '';
	shown.textvalue = (section_id) => el('span', {}, String(uci.get('wireless', section_id, option) ?? '–'));
};

return view.extend({
	load: () => Promise.all([uci.load('wireless'), uci.load('dynapoint')]),

	render: () => {
		const names = uci.sections('dynapoint', 'rule').map((section) => section['.name']);
		const map = new form.Map('wireless', _('Access points'),
			_('When each network is on the air. RULE: while the rule is online; !RULE: while it is not; RULE:portal and so on: in exactly that state. All conditions of a network must hold; one without any is left alone.'));
		const s = map.section(form.GridSection, 'wifi-iface');
		s.addremove = false;
		s.anonymous = true;
		s.nodescriptions = true;
		s.modaltitle = (section_id) => _('Conditions of %s').format(section_id);
		s.filter = (section_id) => (uci.get('wireless', section_id, 'mode') ?? 'ap') === 'ap';
		cell(s, 'ssid', _('Name (SSID)'));
		cell(s, 'device', _('Radio'));
		cell(s, 'network', _('Network'));
		const rule = put(s, null, form.DynamicList, 'dynapoint_rule', _('Conditions'), _('Choose, or write your own.'), {
			choices: names.flatMap((name) => [[name, _('%s: while online').format(name)], [`!${name}`, _('!%s: while not online').format(name)], [`${name}:portal`, _('%s:portal: behind a captive portal').format(name)]]),
			validate: condition(names),
		});
		rule.cfgvalue = (section_id) => L.toArray(uci.get('wireless', section_id, 'dynapoint_rule'));
		rule.textvalue = (section_id) => {
			const conditions = L.toArray(uci.get('wireless', section_id, 'dynapoint_rule'));
			return conditions.length ? el('span', {}, conditions.join(', ')) : el('em', {}, _('left alone'));
		};
		// A single condition stays the option that the DynaPoint script read.
		rule.write = (section_id, values) => uci.set('wireless', section_id, 'dynapoint_rule', L.toArray(values).length === 1 ? L.toArray(values)[0] : values);
		map.readonly = daemon.isReadonly() || null;
		return map.render().then((node) => page.frame(null, node));
	},
});
