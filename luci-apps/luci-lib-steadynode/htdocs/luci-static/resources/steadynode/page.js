// SPDX-License-Identifier: Apache-2.0
// Elements, words and numbers that the pages of all three daemons share.
'use strict';
'require baseclass';

/** The page's language for `Intl`, which does not take LuCI's every spelling (`zh_Hans`). */
const language = (() => {
	try {
		return Intl.getCanonicalLocales(document.documentElement.lang.replaceAll('_', '-'))[0];
	} catch {
		return undefined;
	}
})();

const flatten = (children) => children.flat(3).filter((child) => child !== null && child !== undefined && child !== false);

/**
 * An element whose children are nodes or text: a string never becomes markup (LuCI's E() parses a bare string as HTML
 * and writes out a null).
 */
const el = (tag, attributes, ...children) => E(tag, attributes ?? {}, flatten(children));

/** Replaces what is in a node. */
const fill = (node, ...children) => {
	node.replaceChildren(...flatten(children).map((child) => (child instanceof Node) ? child : String(child)));
	return node;
};

const sameAttributes = (old, fresh) => old.attributes.length === fresh.attributes.length
	&& [...fresh.attributes].every(({ name, value }) => old.getAttribute(name) === value);

/**
 * Makes `old` look like `fresh` and leaves alone what does already: a button that is being pressed, a selection. An
 * element is taken for the same when its tag and attributes are, so what a listener is about has to be in an attribute
 * of its row.
 */
const sync = (old, fresh) => {
	if (old.isEqualNode(fresh) || old.classList?.contains('spinning'))
		return;
	const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
	if (old.tagName !== undefined && old.tagName === fresh.tagName && before.length === after.length && after.length > 0 && sameAttributes(old, fresh))
		after.forEach((child, index) => sync(before[index], child));
	else
		old.replaceWith(fresh);
};

/** As `fill`, for what is drawn again and again: see `sync`. */
const show = (node, ...children) => {
	const fresh = el('div', {}, children);
	const [before, after] = [[...node.childNodes], [...fresh.childNodes]];
	if (before.length !== after.length)
		node.replaceChildren(...after);
	else
		after.forEach((child, index) => sync(before[index], child));
	return node;
};

const number = (value, digits) => {
	if (typeof value !== 'number' || !isFinite(value))
		return '–';
	// What rounds to nothing has no sign.
	const shown = Math.abs(value) < 0.5 * 10 ** -(digits ?? 0) ? 0 : value;
	return shown.toLocaleString(language, { minimumFractionDigits: digits ?? 0, maximumFractionDigits: digits ?? 0 });
};

/** At most so many digits. */
const brief = (value, digits) => value.toLocaleString(language, { maximumFractionDigits: digits });

/** A number with a unit, for instance `230.1 V`. */
const quantity = (value, digits, unit) => {
	const text = number(value, digits);
	return (text === '–' || !unit) ? text : `${text}\u00a0${unit}`;
};

/** Seconds in words: `180 ms`, `1.4 s`, `3 min 20 s`, `2 d 4 h`. */
const span = (seconds) => {
	if (typeof seconds !== 'number' || !isFinite(seconds))
		return '–';
	if (seconds < 1)
		return `${brief(seconds * 1000, seconds < 0.01 ? 1 : 0)}\u00a0ms`;
	if (seconds < 60)
		return `${brief(seconds, seconds < 10 ? 2 : 1)}\u00a0s`;
	const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
	const first = units.findIndex(([size]) => seconds >= size);
	const [size, name] = units[first];
	const whole = Math.floor(seconds / size);
	const [nextSize, nextName] = units[first + 1] ?? [1, ''];
	const rest = Math.floor((seconds - whole * size) / nextSize);
	return (rest > 0 && nextName) ? `${whole}\u00a0${name} ${rest}\u00a0${nextName}` : `${whole}\u00a0${name}`;
};

const formats = {
	full: new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' }),
	clock: new Intl.DateTimeFormat(language, { timeStyle: 'medium', hourCycle: 'h23' }),
	day: new Intl.DateTimeFormat(language, { dateStyle: 'medium' }),
};

const instant = (text) => {
	const date = new Date(text ?? NaN);
	return isNaN(date) ? null : date;
};

/** An RFC 3339 time in the reader's zone; today's without the date. */
const time = (text) => {
	const date = instant(text);
	if (!date)
		return '–';
	const today = date.toDateString() === new Date().toDateString();
	return (today ? formats.clock : formats.full).format(date);
};

/** How long ago that was, in words. */
const ago = (text) => {
	const date = instant(text);
	if (!date)
		return '–';
	const seconds = (Date.now() - date.getTime()) / 1000;
	return seconds < 1 ? _('just now') : _('%s ago').format(span(seconds < 60 ? Math.floor(seconds) : seconds));
};

const scaled = (value, step, units) => {
	if (typeof value !== 'number' || !isFinite(value))
		return '–';
	let index = 0;
	while (Math.abs(value) >= step && index < units.length - 1) {
		value /= step;
		index += 1;
	}
	return quantity(value, (index === 0 || Math.abs(value) >= 100) ? 0 : 1, units[index]);
};

/** Colour and shape of a state; the word beside it says the same. */
const tones = {
	ok: 'M6 1a5 5 0 1 1 0 10a5 5 0 1 1 0-10z',
	warn: 'M6 1L11.5 11H.5z',
	bad: 'M1 1H11V11H1z',
	idle: 'M6 1.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9zm0 1.5a3 3 0 1 0 0 6a3 3 0 1 0 0-6z',
};

const shape = (tone) => {
	const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
	svg.setAttribute('viewBox', '0 0 12 12');
	svg.setAttribute('class', `sn-lamp sn-${tones[tone] ? tone : 'idle'}`);
	svg.setAttribute('aria-hidden', 'true');
	const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
	path.setAttribute('d', tones[tone] ?? tones.idle);
	path.setAttribute('fill-rule', 'evenodd');
	svg.appendChild(path);
	return svg;
};

/** Whether the theme is dark: asked of the page itself, because each theme says it in another way. */
const isDark = () => {
	for (let node = document.body; node; node = node.parentElement) {
		const colour = (getComputedStyle(node).backgroundColor.match(/[\d.]+/g) ?? []).map(Number);
		if (colour.length >= 3 && colour[3] !== 0)
			return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 128;
	}
	return false;
};

let sheet = null;

/** The style sheet; once per page. */
const style = () => {
	if (sheet)
		return;
	sheet = el('link', { rel: 'stylesheet', href: L.resource('steadynode/style.css') });
	document.head.appendChild(sheet);
};

return baseclass.extend({
	language, el, fill, show, number, quantity, span, time, ago,

	/** Date and time of an RFC 3339 text. */
	moment: (text) => {
		const date = instant(text);
		return date ? formats.full.format(date) : '–';
	},

	/** The day of an RFC 3339 text. */
	day: (text) => {
		const date = instant(text);
		return date ? formats.day.format(date) : '–';
	},

	bytes: (count) => scaled(count, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']),

	/** Bytes per second as bits per second. */
	rate: (bytes) => scaled(typeof bytes === 'number' ? bytes * 8 : null, 1000, ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s']),

	/**
	 * The frame of a page: style sheet, colours of the theme, heading.
	 */
	frame: (title, ...children) => {
		style();
		const node = el('div', { 'class': 'sn' }, title ? el('h2', { name: 'content' }, title) : null, children);
		const follow = () => document.documentElement.classList.toggle('sn-dark', isDark());
		follow();
		window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => window.setTimeout(follow, 50));
		return node;
	},

	/** A titled part of a page. */
	part: (title, ...children) => el('div', { 'class': 'cbi-section sn-part' }, title ? el('h3', {}, title) : null, children),

	/** Shape and word of a state; `tone` is ok, warn, bad or idle. */
	badge: (tone, word) => el('span', { 'class': 'sn-badge' }, shape(tone), el('span', {}, word)),

	/** A table in LuCI's classes; cells are nodes or text, `name` tells a row or cell to tests and style sheets. */
	table: (heads, rows, nothing) => el('div', { 'class': 'sn-scroll' }, el('table', { 'class': 'table sn-table' },
		el('tr', { 'class': 'tr table-titles' }, heads.map((head) => el('th', { 'class': 'th' }, head))),
		rows.length
			? rows.map((cells, index) => {
				const { attributes, columns } = Array.isArray(cells) ? { attributes: {}, columns: cells } : cells;
				return el('tr', { ...attributes, 'class': `tr cbi-rowstyle-${1 + index % 2} ${attributes['class'] ?? ''}` },
					columns.map((cell, column) => el('td', { 'class': 'td', 'data-title': heads[column] || null }, el('div', {}, cell))));
			})
			: el('tr', { 'class': 'tr placeholder' }, el('td', { 'class': 'td', colspan: heads.length }, el('em', {}, nothing ?? _('nothing yet')))),
	)),

	/** A list of terms and values; pairs without a value are left out. */
	facts: (pairs) => el('dl', { 'class': 'sn-facts' }, pairs
		.filter(([, value]) => value !== null && value !== undefined && value !== '')
		.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value)))),

	/** A button; `work` may be asynchronous, the button is busy meanwhile. */
	button: (label, work, kind, attributes) => {
		const node = el('button', {
			type: 'button', 'class': kind ? `btn cbi-button cbi-button-${kind}` : 'btn cbi-button', ...attributes,
			click: (event) => {
				event.preventDefault();
				node.disabled = true;
				node.classList.add('spinning');
				Promise.resolve().then(() => work(event)).finally(() => {
					node.disabled = false;
					node.classList.remove('spinning');
				});
			},
		}, label);
		return node;
	},

	/** A choice; `choices` are pairs of value and label. */
	choice: (label, choices, value, change) => {
		const select = el('select', { 'class': 'cbi-input-select', 'aria-label': label, change: () => change(select.value) },
			choices.map(([key, name]) => el('option', { value: key, selected: key === value ? '' : null }, name)));
		return select;
	},

	/** Offers a text or bytes as a file. */
	download: (name, type, ...content) => {
		const address = URL.createObjectURL(new Blob(content, { type }));
		const link = el('a', { href: address, download: name });
		document.body.appendChild(link);
		link.click();
		link.remove();
		window.setTimeout(() => URL.revokeObjectURL(address), 60000);
	},

	/** Rows of values as CSV (RFC 4180); a text that a spreadsheet would take for a formula is marked as text. */
	csv: (rows) => rows.map((row) => row.map((value) => {
		if (value === null || value === undefined)
			return '';
		const text = (typeof value === 'string' && '=+-@\t'.includes(value.charAt(0))) ? `'${value}` : String(value);
		return ['"', ',', '\n', '\r'].some((special) => text.includes(special)) ? `"${text.replaceAll('"', '""')}"` : text;
	}).join(',')).join('\r\n') + '\r\n',
});
