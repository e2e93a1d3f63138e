// SPDX-License-Identifier: Apache-2.0
// A stored waveform: drawn, and as COMTRADE.
'use strict';
'require baseclass';
'require steadynode.page as page';
'require steadynode.charts as charts';

const { el, number, quantity } = page;

/** Full scale of a COMTRADE sample. */
const FULL_SCALE = 32767;

const two = (value) => String(value).padStart(2, '0');

/** `dd/mm/yyyy,hh:mm:ss.ssssss`, UTC. */
const comtradeTime = (milliseconds) => {
	const date = new Date(milliseconds);
	const micros = String(Math.round((milliseconds - Math.floor(milliseconds / 1000) * 1000) * 1000)).padStart(6, '0');
	return `${two(date.getUTCDate())}/${two(date.getUTCMonth() + 1)}/${date.getUTCFullYear()},`
		+ `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}.${micros}`;
};

const comtradeName = (text) => String(text ?? '').replaceAll(',', ' ').replaceAll('\n', ' ').replaceAll('\r', ' ').slice(0, 64);

return baseclass.extend({
	/** Waveform and RMS trace of an event, in milliseconds from its start. */
	draw: (event, answer) => {
		const origin = -1000 * answer.trigger;
		const nominal = answer.nominal.voltage;
		const format = (value) => `${number(value, 0)} ms`;
		const end = origin + answer.samples.length / answer.rate * 1000;
		const peak = Math.max(...answer.samples.map(Math.abs), 1) * 1.08;
		const over = { kind: 'spans', spans: [{ from: 0, to: (event.duration ?? 0) * 1000, tone: 'event', label: _('the event') }] };
		const waves = charts.plot({ label: _('Waveform of the event'), height: 220, x: { kind: 'linear', format }, y: { kind: 'linear' } });
		waves.update({
			x: [origin, end], y: [-peak, peak], layers: [over, {
				kind: 'line', tone: 'c1', name: _('Voltage'), read: ([at, volts]) => `${format(at)}: ${quantity(volts, 0, 'V')}`,
				points: answer.samples.map((volts, index) => [origin + index / answer.rate * 1000, volts]),
			}],
		});
		const points = answer.rms.map(([at, volts]) => [origin + at * 1000, volts]);
		const trace = charts.plot({ label: _('RMS voltage during the event'), height: 180, x: { kind: 'linear', format }, y: { kind: 'linear' } });
		const range = charts.extent([...points.map(([, volts]) => volts), nominal], 10);
		if (points.length && range)
			trace.update({
				x: [Math.min(origin, points[0][0]), Math.max(end, points[points.length - 1][0])], y: [Math.max(0, range[0]), range[1]], layers: [
					over, { kind: 'rule', y: nominal },
					{ kind: 'line', tone: 'c2', name: _('RMS voltage'), points, read: ([at, volts]) => `${format(at)}: ${quantity(volts, 1, 'V')}` },
				],
			});
		return el('div', { 'class': 'sn-cards' },
			el('div', {}, el('h4', {}, _('Waveform (V)')), waves.node),
			points.length ? el('div', {}, el('h4', {}, _('RMS voltage (V), each half cycle')), trace.node) : null);
	},

	/** The samples as one COMTRADE file (IEEE C37.111-2013, `.cff` with ASCII data). */
	comtrade: (event, answer, status) => {
		const scale = Math.max(...answer.samples.map(Math.abs), 1) / FULL_SCALE;
		const trigger = Date.parse(event.start);
		const { voltage, frequency } = answer.nominal;
		const lines = [
			'--- file type: CFG ---',
			`${comtradeName(status.device?.host)},${comtradeName(status.device?.id)},2013`,
			'1,1A,0D',
			`1,U,,,V,${scale.toExponential(8)},0,0,-${FULL_SCALE},${FULL_SCALE},${voltage},${voltage},P`,
			String(frequency),
			'1',
			`${answer.rate},${answer.samples.length}`,
			comtradeTime(trigger - 1000 * answer.trigger),
			comtradeTime(trigger),
			'ASCII',
			'1',
			'0,0',
			`${status.clock?.synchronised ? '0' : 'F'},0`,
			'--- file type: INF ---',
			'--- file type: HDR ---',
			`${event.kind} ${event.start}`,
			'--- file type: DAT ASCII ---',
			...answer.samples.map((volts, index) => `${index + 1},${Math.round(index / answer.rate * 1e6)},${Math.round(volts / scale)}`),
		];
		return `${lines.join('\r\n')}\r\n`;
	},

	/** Samples as CSV rows. */
	rows: (answer) => [['seconds', 'volts'], ...answer.samples.map((volts, index) => [(index / answer.rate).toFixed(6), volts])],
});
