// SPDX-License-Identifier: Apache-2.0
// Forms: maps of sections, which hold the options of `options.js`.
'use strict';
'require baseclass';
'require uci';
'require ui';
'require options';

const flat = (nodes) => nodes.flat(3).filter((node) => node !== null && node !== undefined);

/** What maps and sections have in common. */
const Node_ = baseclass.extend({
	__init__(title, description) {
		this.title = title ?? '';
		this.description = description ?? '';
		this.children = [];
	},
	append(child) {
		this.children.push(child);
	},
	/** `fn` or its result; a text property may be either. */
	value_of: (given, ...args) => (typeof given === 'function' ? given(...args) : given),
});

const Map_ = Node_.extend({
	__name__: 'CBI.Map',
	__init__(config, title, description) {
		this.super('__init__', title, description);
		this.config = config;
		this.readonly = null;
		this.parsechain = [config];
	},
	section(Kind, ...args) {
		if (!Section.isSubclass(Kind))
			L.raise('TypeError', 'Class must be a descendent of CBIAbstractSection');
		const section = new Kind(this, ...args);
		this.append(section);
		return section;
	},
	chain(config) {
		if (!this.parsechain.includes(config))
			this.parsechain.push(config);
	},
	lookupOption(name, section_id) {
		for (const section of this.children)
			for (const option of section.children)
				if (option.option === name && (!section_id || section.cfgsections().includes(section_id)))
					return [option, section_id ?? section.cfgsections()[0]];
		return null;
	},
	load() {
		return uci.load(this.parsechain).then(() => Promise.all(this.children.map((section) => section.load())));
	},
	render() {
		return this.load().then(() => this.renderContents());
	},
	async renderContents() {
		const node = this.root ?? (this.root = E('div', { 'class': 'cbi-map', id: `cbi-${this.config}` }));
		L.dom.bindClassInstance(node, this);
		const sections = await Promise.all(this.children.map((section) => section.render()));
		node.replaceChildren(...flat([
			this.title ? E('h2', { name: 'content' }, [this.title]) : null,
			this.description ? E('div', { 'class': 'cbi-map-descr' }, [this.description].flat()) : null,
			sections,
		]));
		this.checkDepends();
		if (this.readonly || !L.hasViewPermission())
			node.querySelectorAll('input, select, textarea, button').forEach((control) => {
				if (!control.classList.contains('cbi-button-show'))
					control.disabled = true;
			});
		return node;
	},
	checkDepends() {
		// An option may depend on one that depends on a third.
		for (let round = 0; round < 4; round++)
			for (const section of this.children)
				section.checkDepends();
	},
	parse() {
		return Promise.all(this.children.map((section) => section.parse()));
	},
	async save(_cb, silent) {
		try {
			this.checkDepends();
			await this.parse();
			await uci.save();
			await this.load();
			await this.renderContents();
			await ui.changes.setIndicator();
		} catch (error) {
			if (!silent) {
				ui.showModal(_('Save error'), [
					E('p', {}, [_('An error occurred while saving the form:')]),
					E('p', {}, [E('em', { 'class': 'save-error' }, [String(error.message)])]),
					E('div', { 'class': 'button-row' }, [E('button', { type: 'button', 'class': 'btn', click: () => ui.hideModal() }, [_('Dismiss')])]),
				]);
				error.shown = true;
			}
			throw error;
		}
	},
	reset() {
		uci.unload(this.parsechain);
		return this.load().then(() => this.renderContents());
	},
});

const Section = Node_.extend({
	__name__: 'CBI.AbstractSection',
	__init__(map, type, title, description) {
		this.super('__init__', title, description);
		this.map = map;
		this.config = map.config;
		this.uciconfig = null;
		this.sectiontype = type;
		this.tabs = [];
		this.addremove = false;
		this.anonymous = false;
		this.optional = true;
	},
	tab(name, title, description) {
		this.tabs.push({ name, title, description, children: [] });
	},
	option(Kind, ...args) {
		const option = new Kind(this.map, this, ...args);
		this.append(option);
		return option;
	},
	taboption(tab, ...args) {
		const option = this.option(...args);
		option.tab = tab;
		this.tabs.find(({ name }) => name === tab)?.children.push(option);
		return option;
	},
	filter: () => true,
	cfgsections() {
		return uci.sections(this.uciconfig ?? this.config, this.sectiontype).map((section) => section['.name']).filter((name) => this.filter(name));
	},
	formvalue(section_id, name) {
		return this.getOption(name)?.formvalue(section_id) ?? null;
	},
	getOption(name) {
		return this.children.find((option) => option.option === name) ?? null;
	},
	load() {
		return Promise.all(this.cfgsections().flatMap((section_id) => this.children.map((option) => Promise.resolve(option.load(section_id)).then((value) => option.remember(section_id, value)))));
	},
	checkDepends() {
		for (const option of this.children)
			option.checkDepends();
	},
	/** Options that have a field on the page now. */
	async parse() {
		for (const section_id of this.cfgsections())
			for (const option of this.children)
				if (option.isRendered(section_id))
					await option.parse(section_id);
	},
	/** The fields of a section, on tabs if there are any. */
	async renderFields(section_id, options) {
		const rows = new Map();
		for (const option of options)
			rows.set(option, await option.render(section_id));
		if (!this.tabs.length)
			return [...rows.values()];
		const panes = this.tabs.map(({ name, title, description, children }) => E('div', { 'class': 'cbi-tab-pane', 'data-tab': name, 'data-tab-title': title, 'data-tab-active': String(this.active === name) }, flat([
			description ? E('div', { 'class': 'cbi-tab-descr' }, [description].flat()) : null,
			children.filter((option) => rows.has(option)).map((option) => rows.get(option)),
		])));
		const holder = E('div', { 'class': 'cbi-tabs' }, panes.filter((pane) => pane.querySelector('.cbi-value')));
		ui.tabs.initTabGroup(holder.children);
		for (const pane of panes)
			pane.addEventListener('cbi-tab-active', (event) => { this.active = event.detail.tab; });
		return [holder];
	},
	frame(...content) {
		return E('div', { 'class': 'cbi-section', id: `cbi-${this.config}-${this.sectiontype}` }, flat([
			this.title ? E('h3', {}, [this.title].flat()) : null,
			this.description ? E('div', { 'class': 'cbi-section-descr' }, [this.description].flat()) : null,
			content,
		]));
	},
	async handleAdd(_event, name) {
		uci.add(this.uciconfig ?? this.config, this.sectiontype, name || undefined);
		return this.saveAndRedraw();
	},
	async handleRemove(section_id) {
		for (const option of this.children)
			option.forget(section_id);
		uci.remove(this.uciconfig ?? this.config, section_id);
		return this.saveAndRedraw();
	},
	saveAndRedraw() {
		return this.map.save(null, false);
	},
	/** The field for a name, and the button, that make a new section. */
	renderAdder() {
		if (!this.addremove)
			return null;
		const add = (work) => ui.createHandlerFn(this, work);
		const label = this.value_of(this.addbtntitle) ?? _('Add');
		if (this.anonymous)
			return E('div', { 'class': 'cbi-section-create' }, [E('button', { type: 'button', 'class': 'cbi-button cbi-button-add', click: add(function create(event) { return this.handleAdd(event); }) }, [label])]);
		const name = E('input', { type: 'text', 'class': 'cbi-section-create-name', 'aria-label': _('Name'), placeholder: _('Name') });
		const button = E('button', { type: 'button', 'class': 'cbi-button cbi-button-add', click: add(function create(event) {
			const text = name.value.trim();
			const taken = uci.get(this.uciconfig ?? this.config, text) !== null;
			if (!/^[a-zA-Z0-9_]+$/.test(text) || taken) {
				name.classList.add('cbi-input-invalid');
				name.title = taken ? _('The name is taken') : _('Letters, digits and _ only');
				throw new Error(name.title);
			}
			return this.handleAdd(event, text);
		}) }, [label]);
		return E('div', { 'class': 'cbi-section-create' }, [name, ' ', button]);
	},
});

const TypedSection = Section.extend({
	__name__: 'CBI.TypedSection',
	async render() {
		const parts = [];
		for (const section_id of this.cfgsections())
			parts.push(E('div', { 'class': 'cbi-section-node', id: `cbi-${this.config}-${section_id}`, 'data-section-id': section_id }, flat([
				this.anonymous ? null : E('h4', {}, [section_id]),
				await this.renderFields(section_id, this.children),
				this.addremove ? E('div', { 'class': 'cbi-section-remove right' }, [E('button', { type: 'button', 'class': 'cbi-button cbi-button-remove', click: ui.createHandlerFn(this, 'handleRemove', section_id) }, [_('Delete')])]) : null,
			])));
		return this.frame(parts.length ? parts : E('em', {}, [_('This section contains no values yet')]), this.renderAdder());
	},
});

const NamedSection = Section.extend({
	__name__: 'CBI.NamedSection',
	__init__(map, name, type, title, description) {
		this.super('__init__', map, type, title, description);
		this.section = name;
	},
	cfgsections() {
		return uci.get(this.uciconfig ?? this.config, this.section) ? [this.section] : [];
	},
	async render() {
		const [section_id] = this.cfgsections();
		if (!section_id)
			return this.frame(E('em', {}, [_('This section contains no values yet')]), this.addremove ? E('div', {}, [E('button', { type: 'button', 'class': 'cbi-button cbi-button-add', click: ui.createHandlerFn(this, 'handleAdd', null, this.section) }, [_('Add')])]) : null);
		const fields = await this.renderFields(section_id, this.children);
		return this.frame(E('div', { 'class': 'cbi-section-node', id: `cbi-${this.config}-${section_id}`, 'data-section-id': section_id }, fields));
	},
	async handleAdd(_event, name) {
		uci.add(this.uciconfig ?? this.config, this.sectiontype, name);
		return this.saveAndRedraw();
	},
});

/** Sections as rows. In a table all options are fields, in a grid texts with the fields in a dialog. */
const TableSection = TypedSection.extend({
	__name__: 'CBI.TableSection',
	columns() {
		return this.children.filter((option) => option.modalonly !== true);
	},
	cell: (option, section_id) => option.renderBare(section_id),
	async render() {
		const columns = this.columns();
		const buttons = this.addremove || this.hasDialog || this.sortable;
		const head = E('tr', { 'class': 'tr cbi-section-table-titles' }, flat([
			this.anonymous ? null : E('th', { 'class': 'th cbi-section-table-cell' }, [_('Name')]),
			columns.map((option) => E('th', { 'class': 'th cbi-section-table-cell' }, [option.title].flat())),
			buttons ? E('th', { 'class': 'th cbi-section-table-cell cbi-section-actions' }, [E('span', { 'class': 'sr' }, [_('Actions')])]) : null,
		]));
		const rows = [];
		for (const section_id of this.cfgsections()) {
			const cells = [];
			for (const option of columns)
				cells.push(E('td', { 'class': 'td cbi-value-field', 'data-title': option.title || null, 'data-name': option.option }, flat([await this.cell(option, section_id)])));
			rows.push(E('tr', { 'class': 'tr cbi-section-table-row', 'data-sid': section_id, 'data-section-id': section_id }, flat([
				this.anonymous ? null : E('td', { 'class': 'td cbi-section-table-titles', 'data-title': _('Name') }, [section_id]),
				cells,
				buttons ? this.renderActions(section_id) : null,
			])));
		}
		const width = columns.length + (this.anonymous ? 0 : 1) + (buttons ? 1 : 0);
		const none = E('tr', { 'class': 'tr placeholder' }, [E('td', { 'class': 'td', colspan: width }, [E('em', {}, [_('This section contains no values yet')])])]);
		return this.frame(E('div', { 'class': 'table-wrapper' }, [E('table', { 'class': 'table cbi-section-table' }, [head, ...(rows.length ? rows : [none])])]), this.renderAdder());
	},
	renderActions(section_id) {
		const button = (label, kind, work, ...args) => E('button', { type: 'button', 'class': `cbi-button cbi-button-${kind}`, click: ui.createHandlerFn(this, work, ...args) }, [label]);
		return E('td', { 'class': 'td cbi-section-table-cell cbi-section-actions' }, [E('div', {}, flat([
			this.sortable ? [button('↑', 'neutral', 'handleMove', section_id, -1), button('↓', 'neutral', 'handleMove', section_id, 1)] : null,
			this.hasDialog ? button(_('Edit'), 'edit cbi-button-show', 'renderMoreOptionsModal', section_id) : null,
			this.addremove ? button(_('Delete'), 'remove', 'handleRemove', section_id) : null,
		]))]);
	},
	handleMove(section_id, by) {
		const names = this.cfgsections();
		const other = names[names.indexOf(section_id) + by];
		if (other === undefined)
			return null;
		uci.move(this.uciconfig ?? this.config, section_id, other, by > 0);
		return this.saveAndRedraw();
	},
});

const GridSection = TableSection.extend({
	__name__: 'CBI.GridSection',
	hasDialog: true,
	cell(option, section_id) {
		if (option.editable)
			return option.renderBare(section_id);
		const text = option.textvalue(section_id);
		if (text === null || text === undefined || text === '')
			return E('em', {}, [_('none')]);
		return text instanceof Node ? text : document.createTextNode(String(text));
	},
	async handleAdd(_event, name) {
		const section_id = uci.add(this.uciconfig ?? this.config, this.sectiontype, name || undefined);
		await this.load();
		return this.renderMoreOptionsModal(section_id, true);
	},
	async renderMoreOptionsModal(section_id, isNew) {
		const options = this.children.filter((option) => option.modalonly !== false);
		const fields = await this.renderFields(section_id, options);
		const readonly = this.map.readonly || !L.hasViewPermission();
		const close = () => {
			for (const option of options)
				option.forget(section_id);
			ui.hideModal();
		};
		const save = async () => {
			this.checkDepends();
			for (const option of options)
				await option.parse(section_id);
			close();
			await this.saveAndRedraw();
		};
		const dismiss = async () => {
			close();
			if (isNew === true)
				uci.remove(this.uciconfig ?? this.config, section_id);
		};
		const title = this.value_of(this.modaltitle, section_id) ?? section_id;
		ui.showModal(title, [
			E('div', { 'class': 'cbi-map' }, [E('div', { 'class': 'cbi-section-node', 'data-section-id': section_id }, fields)]),
			E('div', { 'class': 'modal-error', role: 'alert' }),
			E('div', { 'class': 'button-row' }, [
				E('button', { type: 'button', 'class': 'btn', click: dismiss }, [_('Dismiss')]),
				' ',
				E('button', { type: 'button', 'class': 'btn cbi-button-positive important', disabled: readonly ? '' : null, click: (event) => {
					const button = event.currentTarget;
					save().catch((error) => { button.closest('.modal')?.querySelector('.modal-error')?.replaceChildren(String(error.message)); });
				} }, [_('Save')]),
			]),
		], 'cbi-modal');
		this.checkDepends();
		if (readonly)
			document.querySelectorAll('.modal input, .modal select, .modal textarea').forEach((control) => { control.disabled = true; });
	},
});

return baseclass.extend({
	Map: Map_,
	AbstractSection: Section,
	TypedSection, NamedSection, TableSection, GridSection,
	...options.kinds,
});
