// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require powquty.common as powquty';
'require powquty.waveform as waveform';
'require powquty.week as weeks';
'require steadynode.page as page';
'require steadynode.daemon as daemon';
'require steadynode.charts as charts';

const { el, fill, show, number, span } = page;

/** Rows of a page of the table: fewer on a phone, where each is a card. */
const ROWS = window.innerWidth < 600 ? 15 : 50;
/** Rows of a call when all are fetched. */
const MOST_ROWS = 200;
/** A CSV of more lines than this is better fetched from the event log itself. */
const MOST_LINES = 20000;

const KINDS = [['', _('all kinds')], ...['dip', 'swell', 'interruption', 'harmonic', 'power_loss', 'outage'].map((kind) => [kind, powquty.kind(kind)])];
const PERIODS = [['', _('any time')], ['1', _('last 24 hours')], ['7', _('last 7 days')], ['30', _('last 30 days')]];

/** Cells of EN 50160: residual voltage against duration. */
const DIP_ROWS = [['A', '80 … 90 %'], ['B', '70 … 80 %'], ['C', '40 … 70 %'], ['D', '5 … 40 %'], ['X', '< 5 %']];
const DIP_COLUMNS = ['≤ 0.2 s', '≤ 0.5 s', '≤ 1 s', '≤ 5 s', '≤ 60 s', '> 60 s'];
const SWELL_ROWS = [['S', '≥ 120 %'], ['T', '110 … 120 %']];
const SWELL_COLUMNS = ['≤ 0.5 s', '≤ 5 s', '≤ 60 s', '> 60 s'];

/** What equipment has to stand by the curve of the Information Technology Industry Council: seconds, % of nominal. */
const ITIC_LOW = [[0.001, 0], [0.02, 0], [0.02, 70], [0.5, 70], [0.5, 80], [10, 80], [10, 90], [1000, 90]];
const ITIC_HIGH = [[0.001, 200], [0.003, 140], [0.003, 120], [0.5, 120], [0.5, 110], [1000, 110]];

const cells = (title, rows, columns, counts) => el('div', { 'class': 'sn-scroll', tabindex: '0' }, el('h4', {}, title),
	el('table', { 'class': 'sn-grid-table' },
		el('tr', {}, el('td', {}), columns.map((column) => el('th', {}, column))),
		rows.map(([letter, range], row) => el('tr', {}, el('th', {}, `${letter}: ${range}`),
			columns.map((_column, column) => {
				const count = counts?.[row]?.[column] ?? 0;
				return el('td', { 'class': count ? 'sn-hit' : null, 'data-cell': `${letter}${column + 1}` }, String(count));
			})))));

const totals = (groups) => {
	const sums = {};
	for (const { kind, count, duration } of groups ?? []) {
		sums[kind] = sums[kind] ?? { count: 0, duration: 0 };
		sums[kind].count += count;
		sums[kind].duration += duration;
	}
	return page.table([_('Kind'), _('Events'), _('Time of all together')],
		Object.entries(sums).map(([kind, { count, duration }]) => ({
			attributes: { 'data-total': kind }, columns: [powquty.kind(kind), number(count, 0), span(duration)],
		})), _('no events this week'));
};

return view.extend({
	handleSaveApply: null,
	handleSave: null,
	handleReset: null,

	render: () => {
		const banner = powquty.banner();
		const [list, detail, summary, count] = [el('div', {}), el('div', { 'class': 'sn-card', hidden: '' }), el('div', {}), el('span', {})];
		const filter = { kind: '', days: '', offset: 0 };
		let status = {};
		let chosen = null;
		let newest = null;
		let drawn = null;

		const scatter = charts.plot({
			label: _('Events by duration and voltage, with the ITIC curve'), height: 280,
			x: { kind: 'log', format: charts.seconds }, y: { kind: 'linear', format: (value) => `${number(value, 0)} %` },
		});

		const ask = (offset, limit) => {
			const since = filter.days ? new Date(Date.now() - filter.days * 86400e3).toISOString() : undefined;
			return powquty.calls.events(since, filter.kind || undefined, offset, limit);
		};

		const close = () => {
			chosen = null;
			detail.hidden = true;
			fill(detail);
		};

		const open = (event) => {
			chosen = event.id;
			detail.hidden = false;
			const body = el('div', {}, el('em', { 'class': 'spinning' }, _('loading')));
			const tools = el('div', { 'class': 'sn-bar' });
			fill(detail, el('h3', {}, `${powquty.kind(event.kind)}, ${page.moment(event.start)}`),
				page.facts([[_('Duration'), powquty.length(event)], [_('Voltage'), powquty.extreme(event)], [_('Class'), event.class]]), body, tools);
			detail.scrollIntoView({ block: 'nearest' });
			const back = page.button(_('Close'), close, 'reset');
			return powquty.calls.waveform(event.id).then((answer) => {
				if (chosen !== event.id)
					return;
				if (!answer.samples?.length)
					throw new Error(_('no waveform is stored'));
				fill(body, waveform.draw(event, answer));
				fill(tools,
					page.button('COMTRADE', () => page.download(`${event.id}.cff`, 'application/octet-stream', waveform.comtrade(event, answer, status)), 'action'),
					page.button('CSV', () => page.download(`${event.id}.csv`, 'text/csv', page.csv(waveform.rows(answer))), 'action'), back);
			}).catch((error) => {
				if (chosen === event.id) {
					fill(body, el('p', {}, _('No waveform: %s').format(error.message)));
					fill(tools, back);
				}
			});
		};

		const draw = ({ events, total }) => {
			show(count, total ? _('%s to %s of %s').format(String(filter.offset + 1), String(filter.offset + events.length), String(total)) : '');
			earlier.disabled = filter.offset + events.length >= total;
			later.disabled = filter.offset === 0;
			newest = `${total} ${events[0]?.id} ${JSON.stringify(filter)}`;
			show(list, page.table([_('Kind'), _('Start'), _('Duration'), _('Voltage or level'), _('Class'), _('Waveform')], events.map((event) => ({
				attributes: { 'data-event': event.id, 'data-kind': event.kind },
				columns: [
					powquty.kind(event.kind), page.moment(event.start), powquty.length(event), powquty.extreme(event), event.class ?? '–',
					event.waveform
						? page.button(_('Show'), () => open(event), 'action', { 'aria-label': _('Show %s of %s').format(powquty.kind(event.kind), page.moment(event.start)) })
						: '–',
				],
			})), _('no events')));
		};

		const drawScatter = (events) => {
			const dots = events.filter((event) => typeof event.extreme_percent === 'number').map((event) => {
				const [mark, tone] = powquty.MARKS[event.kind] ?? ['circle', 'c1'];
				return {
					at: Math.max(event.duration, 0.002), value: Math.min(event.extreme_percent, 198), mark, tone, chosen: () => open(event),
					label: `${powquty.kind(event.kind)}, ${page.moment(event.start)}: ${span(event.duration)}, ${powquty.extreme(event)}`,
				};
			});
			const longest = Math.max(100, ...dots.map(({ at }) => at * 2));
			scatter.update({
				x: [0.002, Math.min(longest, 1000)], y: [0, Math.max(140, ...dots.map(({ value }) => value + 5))], layers: [
					{ kind: 'line', tone: 'idle', points: ITIC_LOW }, { kind: 'line', tone: 'idle', points: ITIC_HIGH }, { kind: 'dots', dots },
				],
			});
		};

		const table = daemon.watch(1, () => ask(filter.offset, ROWS).then(draw), banner);
		// Asked for only when there is something new.
		daemon.watch(2, () => (newest === null || newest === drawn) ? Promise.resolve()
			: Promise.resolve(newest).then((stand) => ask(0, MOST_ROWS).then(({ events }) => {
				drawn = stand;
				drawScatter(events);
			})));
		daemon.watch(30, () => powquty.calls.status().then((answer) => status = answer));
		daemon.watch(10, () => powquty.calls.report(weeks.name(new Date())).then((week) => show(summary,
			totals(week.events?.groups),
			el('div', { 'class': 'sn-cards' },
				cells(_('Dips by residual voltage and duration (EN 50160)'), DIP_ROWS, DIP_COLUMNS, week.events?.dips),
				cells(_('Swells by highest voltage and duration'), SWELL_ROWS, SWELL_COLUMNS, week.events?.swells))),
		(error) => fill(summary, el('p', {}, el('em', {}, error.message)))));

		const turn = (step) => () => {
			filter.offset = Math.max(0, filter.offset + step);
			return table.now();
		};
		const change = (name) => (value) => {
			filter[name] = value;
			filter.offset = 0;
			return table.now();
		};
		const save = async () => {
			const rows = [];
			for (let total = 1; rows.length < Math.min(total, MOST_LINES);) {
				const answer = await ask(rows.length, MOST_ROWS);
				total = answer.total;
				if (!answer.events.length)
					break;
				rows.push(...answer.events);
			}
			const columns = ['id', 'kind', 'start', 'end', 'duration', 'extreme_voltage', 'extreme_percent', 'class', 'order', 'limit_percent', 'value_percent', 'share_percent'];
			page.download('powquty-events.csv', 'text/csv', page.csv([columns, ...rows.map((event) => columns.map((column) => event[column]))]));
		};
		const later = page.button(_('Later'), turn(-ROWS));
		const earlier = page.button(_('Earlier'), turn(ROWS));

		return page.frame(_('Events of the supply'), banner.node,
			page.part(_('This week'), summary),
			page.part(_('Events'),
				el('div', { 'class': 'sn-bar' },
					page.choice(_('Kind'), KINDS, '', change('kind')), page.choice(_('Time'), PERIODS, '', change('days')),
					page.button(_('Download CSV'), save, 'action'), count, later, earlier),
				detail, list),
			page.part(_('Duration and voltage'), scatter.node,
				charts.legend([['c2', _('dip')], ['c3', _('swell')], ['bad', _('interruption')], ['idle', _('ITIC curve, for orientation')]])));
	},
});
