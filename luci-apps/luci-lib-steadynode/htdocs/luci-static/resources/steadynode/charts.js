// SPDX-License-Identifier: Apache-2.0
// Charts as inline SVG in the colours of the theme. A chart is drawn at the width it has on the page, so that its
// lettering is as large on a phone as on a screen.
'use strict';
'require baseclass';
'require steadynode.page as page';

const { el, number } = page;

const MARGIN = { left: 48, right: 10, top: 10, bottom: 22 };
const MINUTE = 60e3, HOUR = 3600e3, DAY = 86400e3;
const TIME_STEPS = [1e3, 2e3, 5e3, 10e3, 30e3, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
	HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY];

const svg = (tag, attributes, ...children) => {
	const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
	for (const [name, value] of Object.entries(attributes ?? {}))
		if (value !== null && value !== undefined)
			node.setAttribute(name, value);
	for (const child of children.flat(2))
		if (child !== null && child !== undefined)
			node.append(child instanceof Node ? child : String(child));
	return node;
};

const round = (value) => Math.round(value * 10) / 10;

/** About `count` round numbers between the two. */
const linearTicks = (low, high, count) => {
	const rough = (high - low) / Math.max(1, count);
	if (!(rough > 0))
		return [low];
	const power = 10 ** Math.floor(Math.log10(rough));
	const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
	const ticks = [];
	for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1)
		ticks.push(index * step);
	return ticks;
};

const digitsOf = (ticks) => {
	if (ticks.length < 2)
		return 1;
	const step = Math.abs(ticks[1] - ticks[0]);
	const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
	// A step of 2.5 needs one more.
	return Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6 ? digits + 1 : digits;
};

const timeTicks = (low, high, count) => {
	const step = TIME_STEPS.find((size) => (high - low) / size <= count) ?? 30 * DAY;
	const zone = new Date(high).getTimezoneOffset() * MINUTE;
	const ticks = [];
	for (let at = Math.ceil((low - zone) / step) * step + zone; at <= high; at += step)
		ticks.push(at);
	return { ticks, step };
};

const timeLabel = (at, step) => {
	const date = new Date(at);
	const two = (value) => String(value).padStart(2, '0');
	if (step >= DAY)
		return date.toLocaleDateString(page.language, { day: 'numeric', month: 'numeric' });
	const clock = `${two(date.getHours())}:${two(date.getMinutes())}`;
	return step < MINUTE ? `${clock}:${two(date.getSeconds())}` : clock;
};

/** Scale and ticks of an axis over `room` pixels. */
const axis = (kind, low, high, room, spec) => {
	const log = kind === 'log';
	const [from, to] = log ? [Math.log10(low), Math.log10(high)] : [low, high];
	const width = (to - from) || 1;
	const scale = (value) => ((log ? Math.log10(Math.max(value, low / 10)) : value) - from) / width;
	if (kind === 'time') {
		const { ticks, step } = timeTicks(low, high, Math.max(2, Math.floor(room / 70)));
		return { scale, ticks: ticks.map((at) => [at, timeLabel(at, step)]) };
	}
	if (log) {
		const ticks = [];
		for (let power = Math.ceil(from - 1e-9); power <= to + 1e-9; power += 1)
			ticks.push([10 ** power, spec.format ? spec.format(10 ** power) : String(10 ** power)]);
		return { scale, ticks };
	}
	const values = spec.ticks ?? linearTicks(low, high, Math.max(2, Math.floor(room / (spec.room ?? 40))));
	const digits = digitsOf(values);
	return { scale, ticks: values.map((value) => [value, spec.format ? spec.format(value) : number(value, digits)]) };
};

const pathOf = (points, x, y) => {
	let path = '';
	let open = false;
	for (const [at, value] of points) {
		const known = value !== null && value !== undefined && isFinite(value);
		if (known)
			path += `${open ? 'L' : 'M'}${round(x(at))} ${round(y(value))}`;
		open = known;
	}
	return path;
};

/** The area between two values; a gap splits it. */
const bandOf = (points, x, y) => {
	const stretches = [[]];
	for (const point of points) {
		if (point[1] === null || point[2] === null || !isFinite(point[1]) || !isFinite(point[2]))
			stretches.push([]);
		else
			stretches[stretches.length - 1].push(point);
	}
	return stretches.filter((stretch) => stretch.length).map((stretch) => {
		const there = stretch.map(([at, , high]) => `${round(x(at))} ${round(y(high))}`);
		const back = stretch.map(([at, low]) => `${round(x(at))} ${round(y(low))}`).reverse();
		return `M${there.join('L')}L${back.join('L')}z`;
	}).join('');
};

const MARKS = {
	circle: (x, y) => svg('circle', { cx: round(x), cy: round(y), r: 4 }),
	square: (x, y) => svg('rect', { x: round(x - 4), y: round(y - 4), width: 8, height: 8 }),
	triangle: (x, y) => svg('path', { d: `M${round(x)} ${round(y - 5)}l5 9h-10z` }),
	cross: (x, y) => svg('path', { d: `M${round(x - 4)} ${round(y - 4)}l8 8m0 -8l-8 8`, 'class': 'sn-line' }),
};

/** How each kind of layer is drawn. */
const LAYERS = {
	line: (layer, x, y) => [svg('path', { d: pathOf(layer.points, x, y), 'class': 'sn-line' })],
	band: (layer, x, y) => [svg('path', { d: bandOf(layer.points, x, y), 'class': 'sn-band' })],
	area: (layer, x, y) => [svg('path', { d: bandOf(layer.points, x, y), 'class': 'sn-area' })],
	rule: (layer, x, y, room) => (layer.y !== undefined)
		? [svg('path', { d: `M0 ${round(y(layer.y))}H${room.width}`, 'class': 'sn-rule' })]
		: [svg('path', { d: `M${round(x(layer.x))} 0V${room.height}`, 'class': 'sn-rule' })],
	bars: (layer, x, y) => layer.bars.map(({ at, value, limit, label, tone }) => {
		const width = Math.max(2, (x(at + 1) - x(at)) * 0.7);
		const left = x(at) - width / 2;
		return svg('g', { 'class': tone ? `sn-${tone}` : null },
			svg('title', {}, label),
			(value === null || value === undefined) ? null : svg('rect', {
				x: round(left), y: round(y(value)), width: round(width), height: Math.max(0.5, round(y(0) - y(value))), 'class': 'sn-area',
			}),
			limit ? svg('path', { d: `M${round(left - width * 0.15)} ${round(y(limit))}h${round(width * 1.3)}`, 'class': 'sn-limit' }) : null);
	}),
	dots: (layer, x, y) => layer.dots.map(({ at, value, label, mark, tone, chosen }) => {
		const node = svg('g', { 'class': tone ? `sn-dot sn-${tone}` : 'sn-dot' }, svg('title', {}, label),
			(MARKS[mark] ?? MARKS.circle)(x(at), y(value)));
		if (chosen) {
			node.classList.add('sn-clickable');
			node.addEventListener('click', chosen);
		}
		return node;
	}),
	/** A stretch of a state, from `from` to `to`, over the whole height. */
	spans: (layer, x, y, room) => layer.spans.map(({ from, to, tone, label }) => {
		const left = Math.max(0, x(from));
		const right = Math.min(room.width, x(to));
		return svg('g', { 'class': `sn-${tone}` }, svg('title', {}, label),
			svg('rect', { x: round(left), y: 0, width: Math.max(0.5, round(right - left)), height: room.height, 'class': 'sn-span' }));
	}),
};

/**
 * A chart. `options`: `label` (what it shows, for those who cannot see it), `height` (px), `x` and `y`
 * ({ kind: linear, time or log, unit, format, ticks }). `update({ x: [low, high], y: [low, high], layers })` draws;
 * a layer has a `kind` (see LAYERS), a `tone` and its data; with `name` it is read out under the pointer.
 */
const plot = (options) => {
	const root = svg('svg', { role: 'img', 'aria-label': options.label, 'class': 'sn-plot', height: options.height });
	const readout = el('div', { 'class': 'sn-readout', 'aria-hidden': 'true' });
	const node = el('div', { 'class': 'sn-chart', style: `height:${options.height}px` }, root, readout);
	const margin = { ...MARGIN, ...options.margin };
	let data = null;
	let width = 0;
	let frame = null;

	const draw = () => {
		if (!data || width < 80)
			return;
		const room = { width: width - margin.left - margin.right, height: options.height - margin.top - margin.bottom };
		const across = axis(options.x.kind, data.x[0], data.x[1], room.width, { room: 74, ...options.x });
		const up = options.y ? axis(options.y.kind, data.y[0], data.y[1], room.height, { room: 30, ...options.y }) : null;
		const x = (value) => across.scale(value) * room.width;
		const y = (value) => up ? (1 - up.scale(value)) * room.height : 0;
		frame = { x, y, room };
		root.setAttribute('width', width);
		root.replaceChildren(
			svg('g', { transform: `translate(${margin.left},${margin.top})`, 'class': 'sn-axis' },
				up ? up.ticks.map(([value, label]) => [
					svg('path', { d: `M0 ${round(y(value))}H${room.width}`, 'class': 'sn-grid' }),
					svg('text', { x: -6, y: round(y(value)) + 4, 'text-anchor': 'end' }, label),
				]) : null,
				across.ticks.map(([value, label]) => {
					const at = round(x(value));
					// The outermost labels stay within the picture.
					const anchor = at > room.width - 14 ? 'end' : (at + margin.left < 18 ? 'start' : 'middle');
					return [
						svg('path', { d: `M${at} ${room.height}v4`, 'class': 'sn-grid' }),
						svg('text', { x: anchor === 'end' ? room.width + margin.right : at, y: room.height + 16, 'text-anchor': anchor }, label),
					];
				})),
			svg('svg', { x: margin.left, y: margin.top, width: Math.max(0, room.width), height: room.height, 'class': 'sn-layers' },
				data.layers.map((layer) => svg('g', { 'class': layer.tone ? `sn-${layer.tone}` : null }, LAYERS[layer.kind](layer, x, y, room)))));
	};

	/** What the lines say at this moment. */
	const point = (event) => {
		if (!frame || !data)
			return;
		const named = data.layers.filter((layer) => layer.name && layer.points?.length);
		const left = event.clientX - node.getBoundingClientRect().left - margin.left;
		if (!named.length || left < 0 || left > frame.room.width) {
			readout.textContent = '';
			return;
		}
		const nearest = (points) => points.reduce((best, candidate) =>
			Math.abs(frame.x(candidate[0]) - left) < Math.abs(frame.x(best[0]) - left) ? candidate : best);
		const texts = named.map((layer) => {
			const found = nearest(layer.points);
			return layer.read ? layer.read(found) : `${layer.name} ${number(found[1], 2)}`;
		});
		const at = nearest(named[0].points)[0];
		readout.textContent = [options.x.kind === 'time' ? page.time(new Date(at).toISOString()) : null, ...texts].filter(Boolean).join(' · ');
	};
	node.addEventListener('pointermove', point);
	node.addEventListener('pointerleave', () => readout.textContent = '');

	new ResizeObserver((entries) => {
		width = Math.floor(entries[entries.length - 1].contentRect.width);
		draw();
	}).observe(node);
	return {
		node,
		update: (next) => {
			data = next;
			draw();
		},
	};
};

/** Lowest and highest of some values with some air around; at least `least` apart. */
const extent = (values, least, air) => {
	let low = Infinity;
	let high = -Infinity;
	for (const value of values) {
		if (value === null || value === undefined || !isFinite(value))
			continue;
		low = Math.min(low, value);
		high = Math.max(high, value);
	}
	if (low > high)
		return null;
	const margin = Math.max((high - low) * (air ?? 0.08), ((least ?? 0) - (high - low)) / 2);
	return [low - margin, high + margin];
};

return baseclass.extend({
	svg, plot, extent,

	/** The colours of the layers in words: pairs of tone and label. */
	legend: (entries) => el('ul', { 'class': 'sn-legend' }, entries.map(([tone, label]) => el('li', { 'class': `sn-${tone}` },
		el('span', { 'class': 'sn-swatch' }), el('span', {}, label)))),

	/** Seconds on a logarithmic axis. */
	seconds: (value) => value < 1 ? `${number(value * 1000, value < 0.001 ? 1 : 0)}\u00a0ms` : `${number(value, 0)}\u00a0s`,
});
