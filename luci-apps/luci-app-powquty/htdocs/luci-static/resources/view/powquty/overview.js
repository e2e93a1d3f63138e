// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require powquty.common as powquty';
'require steadynode.page as page';
'require steadynode.daemon as daemon';
'require steadynode.charts as charts';

const { el, fill, show, number, quantity, span } = page;

const SPANS = [['10m', _('10 minutes')], ['1h', _('1 hour')], ['1d', _('1 day')], ['7d', _('7 days')], ['30d', _('30 days')]];

/** Highest order in the bar chart; the engine knows 50. */
const ORDERS = 25;

/** Voltage, frequency, THD: a large number and its recent past. */
const TILES = [
	{ name: 'voltage', title: _('Voltage'), unit: 'V', digits: 1, least: 2, tone: 'c1' },
	{ name: 'frequency', title: _('Frequency'), unit: 'Hz', digits: 3, least: 0.02, tone: 'c3' },
	{ name: 'thd', title: _('Total harmonic distortion'), unit: '%', digits: 2, least: 0.2, tone: 'c4' },
];

/** `10m` in seconds. */
const seconds = (text) => parseInt(text, 10) * { m: 60, h: 3600, d: 86400 }[text.slice(-1)];

const tile = ({ name, title, unit, digits, least, tone }) => {
	const value = el('p', { 'class': 'sn-value', 'data-value': name }, '–');
	const note = el('p', { 'class': 'sn-note' }, '\u00a0');
	const chart = charts.plot({ label: _('%s, recent past').format(title), height: 130, x: { kind: 'time' }, y: { kind: 'linear' } });
	return {
		name, note,
		node: el('div', { 'class': 'sn-card' }, el('h3', {}, title), value, note, chart.node),
		tell: (now) => fill(value, number(now, digits), ' ', el('small', {}, unit)),
		draw: (answer, width) => {
			const points = (answer.points ?? []).map(([at, low, mean, high]) => [Date.parse(at), low, mean, high]);
			const range = charts.extent(points.flatMap(([, low, , high]) => [low, high]), least);
			if (!range)
				return;
			const end = points[points.length - 1][0] + answer.step * 1000;
			// A monitor that has just started shows what it has.
			const begin = Math.max(end - width * 1000, Math.min(points[0][0], end - 60e3));
			chart.update({
				x: [begin, end], y: range, layers: [
					{ kind: 'band', tone, points: points.map(([at, low, , high]) => [at, low, high]) },
					{ kind: 'line', tone, points: points.map(([at, , mean]) => [at, mean]), name: title, read: ([, mean]) => quantity(mean, digits, unit) },
				],
			});
		},
	};
};

const isHarmonic = ({ characteristic }) => String(characteristic).startsWith('h');

/** The row of the harmonic that is worst off stands for all of them. */
const worstHarmonic = (rows) => {
	const light = powquty.worst(rows);
	return rows.filter((row) => row.light === light).reduce((worst, row) => row.share > worst.share ? row : worst);
};

const lightsTable = (rows) => page.table(
	[_('Characteristic'), _('State'), _('Allowance used'), _('Latest'), _('Limit'), _('Events')],
	rows.map(({ title, ...row }) => {
		const tone = powquty.tone(row.light);
		const unit = row.characteristic === 'flicker' ? '' : '%';
		const byCount = row.count !== null && row.count !== undefined;
		return {
			attributes: { 'data-characteristic': row.characteristic, 'data-light': row.light },
			columns: [
				title ?? powquty.characteristic(row.characteristic), powquty.light(row.light),
				el('span', { 'class': 'sn-badge' }, powquty.meter(row.share, tone), quantity(row.share, row.share < 10 ? 1 : 0, '%')),
				quantity(row.value, 2, unit), quantity(row.limit, 1, unit),
				byCount ? `${row.count} (${span(row.event_time ?? 0)})` : '–',
			],
		};
	}), _('nothing judged yet'));

/** One line for all harmonics among the others. */
const mainRows = (rows) => {
	const harmonics = rows.filter(isHarmonic);
	const place = rows.findIndex(isHarmonic);
	const others = rows.filter((row) => !isHarmonic(row));
	if (!harmonics.length)
		return others;
	const worst = worstHarmonic(harmonics);
	return [...others.slice(0, place), { ...worst, characteristic: 'harmonics', title: _('Harmonics, worst: %s').format(worst.characteristic.slice(1)) }, ...others.slice(place)];
};

const eventsTable = (events) => page.table([_('Start'), _('Kind'), _('Duration'), _('Voltage or level'), _('Class')],
	events.map((event) => ({
		attributes: { 'data-event': event.id },
		columns: [page.time(event.start), powquty.kind(event.kind), powquty.length(event), powquty.extreme(event), event.class ?? '–'],
	})), _('no events'));

/** What is behind the measurement: source, clock, position, sinks, logs. */
const conditions = (status) => {
	const { source, clock, position, gps, alerts, logs, device } = status;
	const faults = Object.entries(source?.faults ?? {}).filter(([, count]) => count > 0).map(([name, count]) => `${name} ${count}`);
	const sinks = Object.entries(powquty.SINKS).filter(([sink]) => alerts?.[sink]).map(([sink, name]) => {
		const { queued, delivered, dropped, last_error: error } = alerts[sink];
		const tone = error ? 'bad' : (queued > 0 ? 'warn' : 'ok');
		return el('div', { 'data-sink': sink }, page.badge(tone, name), ' ',
			_('%s delivered, %s waiting').format(String(delivered), String(queued)),
			dropped ? `, ${_('%s lost').format(String(dropped))}` : null, error ? el('div', {}, error) : null);
	});
	return page.facts([
		[_('Device'), device ? `${device.id} · ${device.host}` : null],
		[_('Source'), el('span', {}, powquty.source(source), ' ', powquty.INPUTS[source?.kind] ?? '', source?.device ? ` (${source.device})` : '',
			source?.reason ? el('div', {}, source.reason) : null)],
		[_('Faults of the line'), faults.length ? faults.join(', ') : _('none')],
		[_('Clock'), el('span', {}, page.badge(clock?.synchronised ? 'ok' : 'warn', clock?.synchronised ? _('synchronised') : _('not synchronised')),
			clock?.source ? ` (${clock.source})` : '', source?.rate_ppm !== null && source?.rate_ppm !== undefined ? `, ${number(source.rate_ppm, 1)} ppm` : '')],
		[_('Position'), position ? `${number(position.latitude, 5)}°, ${number(position.longitude, 5)}° (${position.source === 'gps' ? 'GPS' : _('configured')})` : null],
		[_('GPS'), gps ? el('span', {}, page.badge(gps.state === 'fix' ? 'ok' : 'warn', String(gps.state)),
			gps.satellites !== null && gps.satellites !== undefined ? ` ${_('%s satellites').format(String(gps.satellites))}` : '', gps.reason ? ` – ${gps.reason}` : '') : null],
		[_('Alerts'), sinks.length ? sinks : _('no sink is configured')],
		[_('Records'), logs ? el('span', {}, logs.record_path, logs.volatile ? el('div', {}, page.badge('warn', _('in memory: lost when this router loses power'))) : null) : null],
		[_('Running for'), `${span(status.uptime)} · powqutyd ${status.version}`],
	]);
};

const scope = () => {
	const chart = charts.plot({ label: _('The last cycles of the voltage'), height: 220, x: { kind: 'linear', format: (value) => `${number(value, 0)} ms` }, y: { kind: 'linear' } });
	return {
		node: chart.node,
		draw: ({ rate, samples }, nominal) => {
			if (!samples?.length)
				return;
			const peak = Math.max(nominal * Math.SQRT2, ...samples.map(Math.abs)) * 1.08;
			chart.update({
				x: [0, samples.length / rate * 1000], y: [-peak, peak], layers: [
					{ kind: 'rule', y: 0 },
					{ kind: 'line', tone: 'c1', name: _('Voltage'), points: samples.map((volts, index) => [index / rate * 1000, volts]), read: ([, volts]) => quantity(volts, 0, 'V') },
				],
			});
		},
	};
};

const spectrum = () => {
	const ticks = [...Array(ORDERS).keys()].map((index) => index + 1).filter((order) => order > 1 && order % 2 === 1);
	const chart = charts.plot({
		label: _('Harmonics in percent of the fundamental, with their limits'), height: 220,
		x: { kind: 'linear', ticks, format: String }, y: { kind: 'linear', format: (value) => `${number(value, value < 1 && value > 0 ? 1 : 0)} %` },
	});
	return {
		node: chart.node,
		draw: (orders) => {
			const bars = orders.filter(({ order }) => order >= 2 && order <= ORDERS).map(({ order, percent, limit }) => ({
				at: order, value: percent, limit, tone: (limit && percent > limit) ? 'bad' : 'c4',
				label: limit ? _('Order %s: %s %%, limit %s %%').format(String(order), number(percent, 2), number(limit, 1)) : _('Order %s: %s %%').format(String(order), number(percent, 2)),
			}));
			const top = Math.max(1, ...bars.map(({ value, limit }) => Math.max(value ?? 0, limit ?? 0))) * 1.1;
			chart.update({ x: [1.2, ORDERS + 0.8], y: [0, top], layers: [{ kind: 'bars', bars }] });
		},
	};
};

return view.extend({
	handleSaveApply: null,
	handleSave: null,
	handleReset: null,

	render: () => {
		const banner = powquty.banner();
		const tiles = TILES.map(tile);
		const problems = el('div', {});
		const verdict = el('p', { 'class': 'sn-note' });
		const [lights, harmonicLights, events, state] = [0, 0, 0, 0].map(() => el('div', {}));
		const [waves, harmonics] = [scope(), spectrum()];
		let nominal = 230;
		let shown = SPANS[0][0];

		daemon.watch(2, () => powquty.calls.status().then((status) => {
			nominal = status.nominal?.voltage ?? nominal;
			tiles.forEach((one) => one.tell(status.values?.[one.name]));
			tiles[0].note.textContent = status.nominal ? _('nominal %s, dip below %s, swell above %s')
				.format(quantity(nominal, 0, 'V'), quantity(nominal * status.nominal.dip_threshold / 100, 0, 'V'), quantity(nominal * status.nominal.swell_threshold / 100, 0, 'V')) : '';
			tiles[1].note.textContent = status.nominal ? _('nominal %s').format(quantity(status.nominal.frequency, 0, 'Hz')) : '';
			tiles[2].note.textContent = _('flicker: Pst %s, Plt %s').format(number(status.values?.pst, 2), number(status.values?.plt, 2));
			show(problems, daemon.problems(status.configuration));
			const rows = status.lights ?? [];
			show(verdict, powquty.light(powquty.worst(rows)), ' – ', _('EN 50160 over the last seven days'));
			show(lights, lightsTable(mainRows(rows)));
			show(harmonicLights, lightsTable(rows.filter(isHarmonic)));
			show(state, conditions(status));
		}), banner);
		daemon.watch(1, () => powquty.calls.live(true, true).then((live) => {
			waves.draw(live.waveform ?? {}, nominal);
			harmonics.draw(live.harmonics ?? []);
		}));
		const past = daemon.watch(5, () => Promise.all(tiles.map(({ name, draw }) => powquty.calls.trend(name, shown)
			.then((answer) => draw(answer, seconds(shown))))));
		daemon.watch(2, () => powquty.calls.events(undefined, undefined, 0, 5).then((answer) => show(events, eventsTable(answer.events ?? []))));

		const choose = page.choice(_('Time shown'), SPANS, shown, (value) => {
			shown = value;
			past.now();
		});
		return page.frame(_('Power quality'), banner.node, problems,
			el('div', { 'class': 'sn-bar' }, el('label', {}, _('Time shown'), choose)),
			el('div', { 'class': 'sn-tiles' }, tiles.map(({ node }) => node)),
			el('div', { 'class': 'sn-cards', style: 'margin-top:1rem' },
				el('div', { 'class': 'sn-card' }, el('h3', {}, _('Waveform')), waves.node),
				el('div', { 'class': 'sn-card' }, el('h3', {}, _('Harmonics')), harmonics.node,
					charts.legend([['c4', _('share of the fundamental')], ['bad', _('above the limit (line)')]]))),
			page.part(_('Traffic lights'), verdict, lights, el('details', {}, el('summary', {}, _('Each harmonic')), harmonicLights)),
			page.part(_('Last events'), events, el('p', {}, el('a', { href: L.url('admin/services/powquty/events') }, _('all events')))),
			page.part(_('State'), state));
	},
});
