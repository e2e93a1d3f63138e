// SPDX-License-Identifier: Apache-2.0
// What powqutyd answers, in words.
'use strict';
'require baseclass';
'require rpc';
'require steadynode.page as page';
'require steadynode.daemon as daemon';

const { el, number, span } = page;

const status = rpc.declare({ object: 'powquty', method: 'status' });
const live = rpc.declare({ object: 'powquty', method: 'live', params: ['waveform', 'harmonics'] });
const trend = rpc.declare({ object: 'powquty', method: 'trend', params: ['quantity', 'span'] });
const events = rpc.declare({ object: 'powquty', method: 'events', params: ['since', 'kind', 'offset', 'limit'] });
const waveform = rpc.declare({ object: 'powquty', method: 'waveform', params: ['id'] });
const report = rpc.declare({ object: 'powquty', method: 'report', params: ['week'] });
const reportHtml = rpc.declare({ object: 'powquty', method: 'report_html', params: ['week', 'part'] });

const KINDS = {
	dip: _('Dip'),
	swell: _('Swell'),
	interruption: _('Interruption'),
	harmonic: _('Harmonic'),
	power_loss: _('Power loss'),
	outage: _('Monitor was off'),
	rvc: _('Rapid voltage change'),
};

const CHARACTERISTICS = {
	frequency: _('Frequency'),
	voltage: _('Voltage'),
	flicker: _('Flicker'),
	thd: _('THD'),
	signalling: _('Mains signalling'),
	dip: _('Dips'),
	swell: _('Swells'),
	interruption: _('Interruptions'),
	rvc: _('Rapid voltage changes'),
};

const LIGHTS = {
	green: ['ok', _('within limits')],
	yellow: ['warn', _('close to the limit')],
	red: ['bad', _('outside')],
	grey: ['idle', _('too little measured')],
};

const SOURCES = {
	starting: ['warn', _('starting')],
	running: ['ok', _('running')],
	absent: ['bad', _('not plugged in')],
	silent: ['bad', _('silent')],
	ended: ['idle', _('recording is over')],
	failed: ['bad', _('failed')],
	off: ['idle', _('switched off')],
};

const INPUTS = {
	wesense: _('USB oscilloscope (WeSense)'),
	file: _('recording'),
	stdin: _('standard input'),
	simulator: _('simulated grid'),
	command: _('program'),
};

const SINKS = { slack: 'Slack', mqtt: 'MQTT', email: _('Email'), exec: _('Program') };

const MARKS = { dip: ['triangle', 'c2'], swell: ['square', 'c3'], interruption: ['cross', 'bad'], harmonic: ['circle', 'c4'] };

return baseclass.extend({
	calls: {
		status: daemon.calls(status),
		live: daemon.calls(live),
		trend: daemon.calls(trend),
		events: daemon.calls(events),
		waveform: daemon.calls(waveform),
		report: daemon.calls(report),
		reportHtml: daemon.calls(reportHtml),
	},

	KINDS, SINKS, MARKS, SOURCES, INPUTS,

	banner: () => daemon.banner('powqutyd', '/etc/init.d/powqutyd'),

	kind: (name) => KINDS[name] ?? String(name ?? '–'),

	/** `voltage`, `h5` and so on in words. */
	characteristic: (name) => CHARACTERISTICS[name]
		?? (String(name).startsWith('h') ? _('Harmonic %s').format(String(name).slice(1)) : String(name)),

	light: (name) => page.badge(...(LIGHTS[name] ?? LIGHTS.grey)),

	tone: (light) => (LIGHTS[light] ?? LIGHTS.grey)[0],

	source: (source) => {
		const [tone, word] = SOURCES[source?.state] ?? ['idle', String(source?.state ?? '–')];
		return page.badge(tone, word);
	},

	/** The worst of some lights. */
	worst: (lights) => ['red', 'yellow', 'green'].find((name) => lights.some(({ light }) => light === name)) ?? 'grey',

	/** Residual or highest voltage of an event; of a harmonic its level against the limit. */
	extreme: (event) => {
		if (event.order) {
			const order = _('order %s').format(String(event.order));
			if (typeof event.value_percent === 'number')
				return `${order}: ${_('%s %% (limit %s %%)').format(number(event.value_percent, 2), number(event.limit_percent, 2))}`;
			// From an old line of the event log.
			return typeof event.share_percent === 'number' ? `${order}, ${_('above the limit for %s %% of the time').format(number(event.share_percent, 0))}` : order;
		}
		if (typeof event.extreme_voltage !== 'number')
			return '–';
		return `${number(event.extreme_voltage, 1)}\u00a0V (${number(event.extreme_percent, 1)}\u00a0%)`;
	},

	length: (event) => event.open
		? _('%s, not over').format(span(event.duration))
		: span(event.duration),

	/** Share of an allowance that is used. */
	meter: (percent, tone) => el('span', { 'class': `sn-meter sn-${tone}`, role: 'img', 'aria-label': `${number(percent, 0)} %` },
		el('span', { style: `width:${Math.max(0, Math.min(100, percent || 0))}%` })),
});
