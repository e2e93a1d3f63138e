// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require rpc';
'require mptcp-proxy.common as proxy';
'require mptcp-proxy.topology as topology';
'require steadynode.page as page';
'require steadynode.daemon as daemon';
'require steadynode.charts as charts';

const { el, fill, show, number, quantity, span } = page;

const connections = daemon.calls(rpc.declare({ object: 'mptcp-proxy', method: 'connections', params: ['offset', 'limit'] }));
const trend = daemon.calls(rpc.declare({ object: 'mptcp-proxy', method: 'trend', params: ['span'] }));
const doctor = daemon.calls(rpc.declare({ object: 'mptcp-proxy', method: 'doctor' }));
const switchPath = daemon.calls(rpc.declare({ object: 'mptcp-proxy', method: 'path', params: ['name', 'action'] }));

/** Seconds between two looks, and how many of them the live graph shows. */
const PACE = 2;
const LIVE_SAMPLES = 150;
/** Rows of a page of the table of connections: fewer on a phone, where each is a card. */
const ROWS = window.innerWidth < 600 ? 15 : 50;

const SPANS = [['live', _('5 minutes')], ['3600', _('1 hour')], ['86400', _('1 day')]];
const DIRECTIONS = [['rx', _('received')], ['tx', _('sent')]];
const RESULTS = { ok: ['ok', _('in order')], warn: ['warn', _('could be better')], fail: ['bad', _('does not work')] };
const WAYS = { tunnel: _('tunnel'), direct: _('direct'), served: _('served') };
const PHASES = { connecting: _('connecting'), open: _('open'), half_closed: _('half closed') };

/** What each path carries per second, from two looks at its counters. */
class Meter {
	constructor() {
		this.before = new Map();
		this.samples = [];
	}

	look(paths) {
		const at = Date.now();
		const rates = {};
		for (const { name, rx_bytes: rx, tx_bytes: tx } of paths) {
			const past = this.before.get(name);
			const seconds = past ? (at - past.at) / 1000 : 0;
			// A restarted daemon counts from 0.
			if (seconds > 0 && rx >= past.rx && tx >= past.tx)
				rates[name] = { rx: (rx - past.rx) / seconds, tx: (tx - past.tx) / seconds };
			this.before.set(name, { at, rx, tx });
		}
		this.samples = [...this.samples, { at, rates }].slice(-LIVE_SAMPLES);
		return rates;
	}
}

/** The paths' shares on top of each other; `samples` hold bytes per second by path. */
const stacked = (names, samples, direction) => {
	const floor = samples.map(() => 0);
	return names.map((name, index) => ({
		kind: 'area', tone: proxy.colour(index), name, read: (point) => `${name} ${page.rate((point[2] - point[1]) / 8)}`,
		points: samples.map(({ at, rates }, place) => {
			const low = floor[place];
			floor[place] += 8 * (rates[name]?.[direction] ?? 0);
			return [at, low, floor[place]];
		}),
	}));
};

const throughput = (options) => {
	const chart = charts.plot({
		label: _('Throughput by path'), height: 200, margin: { left: 74 }, x: { kind: 'time' },
		y: { kind: 'linear', format: (bits) => page.rate(bits / 8) },
	});
	const legend = el('div', {});
	return {
		node: el('div', {}, chart.node, legend),
		draw: (names, samples) => {
			const layers = stacked(names, samples, options.direction);
			const top = Math.max(8000, ...layers.flatMap((layer) => layer.points.map(([, , high]) => high))) * 1.1;
			const end = Date.now();
			const seconds = options.span === 'live' ? LIVE_SAMPLES * PACE : Number(options.span);
			// At first the graph shows what there is.
			const begin = Math.max(end - seconds * 1000, Math.min(samples[0]?.at ?? end, end - 60e3));
			chart.update({ x: [begin, end], y: [0, top], layers });
			show(legend, charts.legend(names.map((name, index) => [proxy.colour(index), name])));
		},
	};
};

/** The daemon's points of all paths by their moments. */
const samplesOf = (paths) => {
	const moments = new Map();
	for (const { name, points } of paths)
		for (const { at, rx_rate: rx, tx_rate: tx } of points) {
			const moment = moments.get(at) ?? { at: Date.parse(at), rates: {} };
			moment.rates[name] = { rx, tx };
			moments.set(at, moment);
		}
	return [...moments.values()].sort((a, b) => a.at - b.at);
};

const connectionsTable = (entries) => page.table(
	[_('From'), _('To'), _('Way'), _('State'), _('Age'), _('Received'), _('Sent'), _('Subflows')],
	entries.map((entry) => ({
		attributes: { 'data-connection': entry.id },
		columns: [
			entry.source, entry.target, [WAYS[entry.way] ?? entry.way, entry.server ?? entry.user].filter(Boolean).join(' · '),
			PHASES[entry.state] ?? entry.state, span(entry.age), page.bytes(entry.rx_bytes), page.bytes(entry.tx_bytes),
			entry.subflows?.length ? entry.subflows.map((flow) => el('div', {}, `${flow.local} · ${proxy.milliseconds(flow.rtt)}`)) : '–',
		],
	})), _('no connections'));

const pathsTable = (paths, ask) => page.table([_('Path'), _('State'), _('RTT'), _('Loss'), _('Received'), _('Sent'), ...(ask ? [_('Switch')] : [])],
	paths.map((path) => {
		const off = path.switched_off === true;
		const button = ask ? page.button(off ? _('Switch on') : _('Switch off'), () => ask(path.name, off ? 'up' : 'down'), off ? 'apply' : 'reset') : null;
		return {
			attributes: { 'data-path': path.name, 'data-off': String(off) },
			columns: [
				path.name, el('span', {}, proxy.badge(path.state), ` – ${path.reason}`), proxy.milliseconds(path.rtt),
				quantity(typeof path.loss === 'number' ? path.loss * 100 : null, 1, '%'), page.bytes(path.rx_bytes), page.bytes(path.tx_bytes), ...(button ? [button] : []),
			],
		};
	}), _('There are no paths.'));

const checklist = (checks) => page.table([_('Check'), _('Result'), _('Found'), _('What to do')], checks.map((check) => {
	const [tone, word] = RESULTS[check.result] ?? ['idle', String(check.result)];
	return { attributes: { 'data-check': check.check, 'data-result': check.result }, columns: [check.check, page.badge(tone, word), check.detail, check.remedy || '–'] };
}));

return view.extend({
	handleSaveApply: null,
	handleSave: null,
	handleReset: null,

	render: () => {
		const banner = proxy.banner();
		const picture = topology.create();
		const meter = new Meter();
		const [problems, notes, paths, list, count, health, facts] = [0, 0, 0, 0, 0, 0, 0].map(() => el('div', {}));
		const options = { span: SPANS[0][0], direction: DIRECTIONS[0][0], offset: 0 };
		const graph = throughput(options);
		let names = [];

		const ask = daemon.isReadonly() ? null : (name, action) => switchPath(name, action).then(() => watch.now(),
			(error) => daemon.tell(`${name}: ${error.message}`, 'error'));

		const watch = daemon.watch(PACE, () => proxy.calls.status().then((status) => {
			show(problems, daemon.problems(status.configuration));
			show(notes, status.draining ? el('p', {}, page.badge('warn', _('draining: no new connections are taken'))) : null);
			names = (status.paths ?? []).map((path) => path.name);
			picture.update(status, meter.look(status.paths ?? []));
			if (options.span === 'live')
				graph.draw(names, meter.samples);
			show(paths, pathsTable(status.paths ?? [], ask));
			const { tunnelled, direct, blocked, refused, raced, without_mptcp: plain, served, timed_out: idle, altered, udp_flows: flows, udp_dropped: dropped } = status.counters ?? {};
			const packets = ['client', 'server'].map((half) => status.packets?.[half]?.counters).filter(Boolean);
			const packetsLost = packets.flatMap((half) => Object.values(half.dropped)).reduce((a, b) => a + b, 0);
			const sum = (name) => packets.reduce((total, half) => total + half[name], 0);
			show(facts, page.facts([
				[_('Through the tunnel'), number(tunnelled, 0)], [_('Direct'), number(direct, 0)], [_('Blocked'), number(blocked, 0)], [_('Refused'), number(refused, 0)],
				[_('Won by a second path'), number(raced, 0)], [_('Without MPTCP'), number(plain, 0)], [_('Served'), number(served, 0)], [_('Ended for idleness'), number(idle, 0)],
				...(altered ? [[_('Altered on the way, reset'), number(altered, 0)]] : []),
				[_('UDP sockets'), number(flows, 0)], [_('Datagrams dropped'), number(dropped, 0)],
				...(packets.length ? [[_('Other packets sent'), number(sum('sent'), 0)], [_('Other packets received'), number(sum('received'), 0)], [_('Other packets dropped'), number(packetsLost, 0)]] : []),
				[_('Running for'), `${span(status.uptime)} · mptcp-proxy ${status.version}`],
			]));
		}), banner);
		const past = daemon.watch(15, () => options.span === 'live' ? Promise.resolve()
			: trend(Number(options.span)).then((answer) => graph.draw(names, samplesOf(answer.paths ?? []))));
		const table = daemon.watch(3, () => connections(options.offset, ROWS).then(({ connections: entries, total }) => {
			show(list, connectionsTable(entries));
			show(count, total ? _('%s to %s of %s').format(String(options.offset + 1), String(options.offset + entries.length), String(total)) : '');
			previous.disabled = options.offset === 0;
			next.disabled = options.offset + entries.length >= total;
		}));

		const turn = (step) => () => {
			options.offset = Math.max(0, options.offset + step);
			return table.now();
		};
		const previous = page.button(_('Previous'), turn(-ROWS));
		const next = page.button(_('Next'), turn(ROWS));
		const examine = () => doctor().then(
			(answer) => fill(health, checklist(Array.isArray(answer) ? answer : (answer.result ?? []))),
			(error) => fill(health, el('p', {}, el('em', {}, error.message))));
		const change = (name) => (value) => {
			options[name] = value;
			return options.span === 'live' ? watch.now() : past.now();
		};

		fill(health, el('em', {}, _('not examined yet')));
		return page.frame(_('MPTCP proxy'), banner.node, problems, notes,
			page.part(null, picture.node),
			page.part(_('Throughput'),
				el('div', { 'class': 'sn-bar' }, page.choice(_('Time shown'), SPANS, options.span, change('span')), page.choice(_('Direction'), DIRECTIONS, options.direction, change('direction'))),
				graph.node),
			page.part(_('Paths'), paths),
			page.part(_('Connections'), facts, el('div', { 'class': 'sn-bar' }, count, previous, next), list),
			page.part(_('Doctor'), el('p', {}, _('Looks at everything the proxy needs: kernel, rules, paths, servers. Takes some seconds.')),
				page.button(_('Examine'), examine, 'action'), health));
	},
});
