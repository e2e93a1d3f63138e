// SPDX-License-Identifier: Apache-2.0
// Configuration: loaded into the page, changed there, saved into the session's deltas, applied.
'use strict';
'require baseclass';
'require rpc';

const declare = (method, params, expect) => rpc.declare({ object: 'uci', method, params, expect, reject: true });
const ask = {
	get: declare('get', ['config'], { values: {} }),
	add: declare('add', ['config', 'type', 'name', 'values'], { section: '' }),
	set: declare('set', ['config', 'section', 'values']),
	delete: declare('delete', ['config', 'section', 'options']),
	order: declare('order', ['config', 'sections']),
	changes: declare('changes', [], { changes: {} }),
	revert: declare('revert', ['config']),
	apply: declare('apply', ['timeout', 'rollback']),
	confirm: declare('confirm', []),
};

/** Packages as they are in the page; `sections` in order. */
const packages = new Map();
let made = 0;

const copy = (value) => JSON.parse(JSON.stringify(value));
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const isMade = (name) => /^new\d+/.test(name);

const find = (config, name) => {
	const sections = packages.get(config)?.sections ?? [];
	const extended = /^@(\S*)\[(-?\d+)\]$/.exec(name ?? '');
	if (!extended)
		return sections.find((section) => section['.name'] === name);
	const matching = sections.filter((section) => !extended[1] || section['.type'] === extended[1]);
	return matching.at(Number(extended[2]));
};

const options = (section) => Object.fromEntries(Object.entries(section).filter(([name]) => !name.startsWith('.')));

return baseclass.extend({
	load(names) {
		const wanted = L.toArray(names).filter((name) => !packages.has(name));
		return Promise.all(wanted.map((name) => ask.get(name).then((values) => {
			const sections = Object.values(values).sort((a, b) => a['.index'] - b['.index']);
			packages.set(name, { sections, before: copy(sections), order: false });
		}))).then(() => L.toArray(names));
	},
	unload: (names) => L.toArray(names).forEach((name) => packages.delete(name)),
	sections(config, type, each) {
		const found = (packages.get(config)?.sections ?? []).filter((section) => !type || section['.type'] === type);
		if (typeof each === 'function')
			found.forEach((section) => each(section, section['.name']));
		return found;
	},
	get(config, name, option) {
		const section = find(config, name);
		if (!section)
			return null;
		return (option === undefined || option === null) ? section : section[option] ?? null;
	},
	get_first(config, type, option) {
		for (const section of this.sections(config, type)) {
			const value = this.get(config, section['.name'], option);
			if (value !== null)
				return value;
		}
		return null;
	},
	set(config, name, option, value) {
		const section = find(config, name);
		if (!section || !option || option.startsWith('.'))
			return;
		if (value === null || value === undefined || value === '' || (Array.isArray(value) && !value.length))
			delete section[option];
		else
			section[option] = Array.isArray(value) ? value.map(String) : typeof value === 'boolean' ? (value ? '1' : '0') : String(value);
	},
	set_first(config, type, option, value) {
		this.set(config, this.sections(config, type)[0]?.['.name'], option, value);
	},
	unset(config, name, option) {
		this.set(config, name, option, null);
	},
	unset_first(config, type, option) {
		this.set_first(config, type, option, null);
	},
	add(config, type, name) {
		const section = { '.type': type, '.name': name ?? `new${made++}${Math.random().toString(16).slice(2, 8)}`, '.anonymous': !name, '.create': true };
		packages.get(config)?.sections.push(section);
		return section['.name'];
	},
	clone(config, type, from, _changes, name) {
		const created = this.add(config, type, name);
		Object.assign(find(config, created), copy(options(find(config, from))));
		return created;
	},
	remove(config, name) {
		const state = packages.get(config);
		if (state)
			state.sections = state.sections.filter((section) => section['.name'] !== name);
	},
	move(config, name, other, after) {
		const state = packages.get(config);
		const section = find(config, name);
		if (!state || !section)
			return false;
		const rest = state.sections.filter((candidate) => candidate !== section);
		const at = rest.findIndex((candidate) => candidate['.name'] === other);
		rest.splice(at < 0 ? rest.length : at + (after ? 1 : 0), 0, section);
		state.sections = rest;
		state.order = true;
		return true;
	},
	createSID: () => `new${made++}`,
	/** Writes what the page has changed into the session's deltas. */
	async save() {
		const touched = [];
		for (const [config, state] of packages) {
			const before = new Map(state.before.map((section) => [section['.name'], section]));
			const now = new Set(state.sections.map((section) => section['.name']));
			for (const name of before.keys())
				if (!now.has(name))
					await ask.delete(config, name);
			for (const section of state.sections) {
				const old = before.get(section['.name']);
				if (!old) {
					const name = section['.anonymous'] || isMade(section['.name']) ? undefined : section['.name'];
					section['.name'] = await ask.add(config, section['.type'], name, options(section));
					delete section['.create'];
					continue;
				}
				const was = options(old);
				const is = options(section);
				const set = Object.fromEntries(Object.entries(is).filter(([option, value]) => !same(value, was[option])));
				const gone = Object.keys(was).filter((option) => !(option in is));
				if (gone.length)
					await ask.delete(config, section['.name'], gone);
				if (Object.keys(set).length)
					await ask.set(config, section['.name'], set);
			}
			if (state.order)
				await ask.order(config, state.sections.map((section) => section['.name']));
			if (state.order || !same(state.sections, state.before))
				touched.push(config);
		}
		this.unload(touched);
		await this.load(touched);
		return touched;
	},
	changes: () => ask.changes(),
	revert: (config) => ask.revert(config).then(() => packages.delete(config)),
	/** Applies and, with a timeout in seconds, confirms; without confirmation it would be taken back. */
	async apply(timeout) {
		await ask.apply(timeout ?? L.env.apply_rollback, true);
		await ask.confirm();
	},
	applyUnchecked: () => ask.apply(0, false),
});
