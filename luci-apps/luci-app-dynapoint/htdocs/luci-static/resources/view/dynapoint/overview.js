// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require rpc';
'require dynapoint.common as dynapoint';
'require steadynode.page as page';
'require steadynode.daemon as daemon';
'require steadynode.charts as charts';

const { el, fill, show, quantity, span } = page;

const history = daemon.calls(rpc.declare({ object: 'dynapoint', method: 'history', params: ['span', 'offset', 'limit'] }));
const checkNow = daemon.calls(rpc.declare({ object: 'dynapoint', method: 'check_now', params: ['rule'] }));
const force = daemon.calls(rpc.declare({ object: 'dynapoint', method: 'force', params: ['rule', 'state', 'for'] }));

const DAY = 86400;
const FORCED_STATES = ['online', 'degraded', 'portal', 'offline'];
const FORCED_TIMES = [['600', _('for 10 minutes')], ['3600', _('for 1 hour')], ['86400', _('for 1 day')], ['', _('until further notice')]];

const RESULTS = {
	passed: ['ok', _('passed')], weak: ['warn', _('weak')], portal: ['warn', _('captive portal')],
	failed: ['bad', _('failed')], skipped: ['idle', _('not counted')],
};

const result = (check) => {
	const [tone, word] = RESULTS[check.result] ?? ['idle', check.result ?? _('not asked yet')];
	return page.badge(tone, word);
};

const checksTable = (checks) => page.table([_('Check'), _('Family'), _('Result'), _('Latency'), _('When')], checks.map((check) => ({
	attributes: { 'data-check': check.name },
	columns: [
		el('span', {}, check.type, ' ', el('code', {}, check.target ?? check.interface ?? check.name)),
		{ ipv4: 'IPv4', ipv6: 'IPv6' }[check.family] ?? check.family ?? '–',
		el('span', {}, result(check), check.detail ? ` – ${check.detail}` : ''),
		check.latency === null || check.latency === undefined ? '–' : quantity(check.latency * 1000, 1, 'ms'),
		check.at ? page.ago(check.at) : '–',
	],
})), _('nothing to check'));

/** The states of a rule over the last day, from its transitions, newest first. */
const stretches = (rule, transitions, now) => {
	const begin = now - DAY * 1000;
	const own = transitions.filter((past) => past.rule === rule.name && Date.parse(past.at) > begin);
	const spans = [];
	let end = now;
	for (const past of own) {
		spans.push({ from: Date.parse(past.at), to: end, state: past.state, reason: past.reason });
		end = Date.parse(past.at);
	}
	const oldest = own[own.length - 1];
	const known = oldest ? begin : Math.max(begin, Date.parse(rule.since ?? '') || now);
	spans.push({ from: known, to: end, state: oldest ? oldest.from : rule.state, reason: oldest ? '' : rule.reason });
	return spans.map(({ from, to, state, reason }) => ({
		from, to, tone: dynapoint.tone(state),
		label: [dynapoint.word(state), page.moment(new Date(from).toISOString()), span((to - from) / 1000), reason].filter(Boolean).join(', '),
	}));
};

/** Card of a rule; kept while the page lives, so that a chosen state stays chosen. */
class RuleCard {
	constructor(name, refresh, readonly) {
		this.words = el('div', {});
		this.checks = el('div', {});
		this.ribbon = charts.plot({
			label: _('States of %s over the last day').format(name), height: 54,
			x: { kind: 'time' }, margin: { left: 6, top: 4 },
		});
		this.name = name;
		this.refresh = refresh;
		this.free = readonly ? null : page.button(_('End forcing'), () => this.ask(force(name, 'auto')), 'reset');
		this.node = el('div', { 'class': 'sn-card', 'data-rule': name }, el('h3', {}, name), this.words, this.ribbon.node, this.checks,
			readonly ? null : this.tools());
	}

	tools() {
		const wanted = { state: FORCED_STATES[0], time: FORCED_TIMES[0][0] };
		return el('div', { 'class': 'sn-bar' },
			page.button(_('Check now'), () => this.ask(checkNow(this.name)), 'action'),
			page.choice(_('State to force'), FORCED_STATES.map((state) => [state, dynapoint.word(state)]), wanted.state, (state) => wanted.state = state),
			page.choice(_('How long'), FORCED_TIMES, wanted.time, (time) => wanted.time = time),
			page.button(_('Force'), () => this.ask(force(this.name, wanted.state, wanted.time ? Number(wanted.time) : undefined)), 'apply'),
			this.free);
	}

	ask(call) {
		return call.then(() => this.refresh(), (error) => daemon.tell(`${this.name}: ${error.message}`, 'error'));
	}

	show(rule) {
		show(this.words,
			el('p', { 'data-state': rule.state }, el('strong', {}, dynapoint.badge(rule.state)), rule.reason ? ` – ${rule.reason}` : ''),
			page.facts([
				[_('Since'), rule.since ? `${page.time(rule.since)} (${page.ago(rule.since)})` : null],
				[_('Next round'), rule.next_round ? page.time(rule.next_round) : null],
				[_('In doubt'), rule.in_doubt ? _('yes: it is being checked more often') : null],
				[_('Forced'), rule.forced ? _('yes, by hand') : null],
			]));
		show(this.checks, checksTable(rule.checks ?? []));
		if (this.free)
			this.free.hidden = !rule.forced;
		this.rule = rule;
	}

	past(transitions) {
		const now = Date.now();
		if (this.rule)
			this.ribbon.update({ x: [now - DAY * 1000, now], layers: [{ kind: 'spans', spans: stretches(this.rule, transitions, now) }] });
	}
}

/** Why an access point is on the air or not: its conditions and what their rules say. */
const why = (point, rules) => {
	const conditions = String(point.rule ?? '').split(' ').filter(Boolean).map((condition) => {
		const name = condition.replaceAll('!', '').split(':')[0];
		const rule = rules.find((candidate) => candidate.name === name);
		return el('div', {}, el('code', {}, condition), rule ? ` – ${_('%s is %s').format(name, dynapoint.word(rule.state))}` : '');
	});
	return el('div', {}, conditions, point.note ? el('div', {}, el('em', {}, point.note)) : null);
};

const onAir = (point) => {
	if (point.on_air === null || point.on_air === undefined)
		return page.badge('idle', _('not known'));
	const tone = (point.wanted === null || point.wanted === point.on_air) ? (point.on_air ? 'ok' : 'idle') : 'warn';
	return page.badge(tone, point.on_air ? _('on the air') : _('off'));
};

const pointsTable = (points, rules) => page.table([_('Name (SSID)'), _('On the air'), _('Wanted'), _('Why'), _('Clients'), _('Radio')], points.map((point) => ({
	attributes: { 'data-access-point': point.section },
	columns: [
		el('span', {}, point.ssid, el('div', { 'class': 'sn-note' }, point.section)), onAir(point),
		{ 'true': _('yes'), 'false': _('no') }[String(point.wanted)] ?? _('left alone'), why(point, rules),
		point.clients ?? '–', [point.radio, point.ifname].filter(Boolean).join(' · '),
	],
})), _('no access point has a rule'));

return view.extend({
	handleSaveApply: null,
	handleSave: null,
	handleReset: null,

	render: () => {
		const banner = dynapoint.banner();
		const [problems, notes, rules, points, log] = [el('div', {}), el('div', {}), el('div', { 'class': 'sn-cards' }), el('div', {}), el('div', {})];
		const cards = new Map();

		const draw = (status) => {
			show(problems, daemon.problems(status.configuration));
			show(notes, [status.note, status.paused, status.switching?.last_error]
				.filter(Boolean).map((text) => el('p', {}, page.badge('warn', String(text)))));
			const names = status.rules.map((rule) => rule.name);
			if ([...cards.keys()].join('\n') !== names.join('\n')) {
				cards.clear();
				names.forEach((name) => cards.set(name, new RuleCard(name, watch.now, daemon.isReadonly())));
				fill(rules, names.length ? [...cards.values()].map((card) => card.node) : el('em', {}, _('There are no rules.')));
				past.now();
			}
			status.rules.forEach((rule) => cards.get(rule.name).show(rule));
			show(points, pointsTable(status.access_points ?? [], status.rules));
		};
		const watch = daemon.watch(2, () => dynapoint.calls.status().then(draw), banner);
		const past = daemon.watch(5, () => history(DAY, 0, 200).then(({ transitions }) => {
			cards.forEach((card) => card.past(transitions));
			show(log, page.table([_('When'), _('Rule'), _('From'), _('To'), _('Reason'), _('Lasted')], transitions.slice(0, 15).map((entry) => [
				page.time(entry.at), entry.rule, dynapoint.word(entry.from), dynapoint.badge(entry.state),
				[entry.reason, entry.flapping ? _('flapping') : null].filter(Boolean).join(', '), span(entry.lasted),
			]), _('no change in the last 24 hours')));
		}));

		return page.frame('DynaPoint', banner.node, problems, notes,
			rules,
			charts.legend([['ok', dynapoint.word('online')], ['warn', _('degraded or portal')], ['bad', dynapoint.word('offline')], ['idle', _('not known')]]),
			page.part(_('Access points'), points),
			page.part(_('Changes of the last 24 hours'), log));
	},
});
