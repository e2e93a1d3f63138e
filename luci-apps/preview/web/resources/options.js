// SPDX-License-Identifier: Apache-2.0
// The options of forms: each knows how to show, check and write one value.
'use strict';
'require baseclass';
'require uci';
'require ui';
'require validation';

const isEmpty = (value) => value === null || value === undefined || value === '' || (Array.isArray(value) && !value.length);
const same = (a, b) => JSON.stringify(Array.isArray(a) ? a.map(String) : a ?? null) === JSON.stringify(Array.isArray(b) ? b.map(String) : b ?? null);

/** A field on the page: its row and how to read it. */
const AbstractValue = baseclass.extend({
	__name__: 'CBI.AbstractValue',
	__init__(map, section, option, title, description) {
		Object.assign(this, {
			map, section, option, title: title ?? '', description: description ?? '', config: map.config, uciconfig: null,
			rmempty: true, optional: false, default: null, deps: [], keylist: [], vallist: [], retain: false, tab: null,
			readonly: null, modalonly: null, known: new Map(), fields: new Map(),
		});
		this.uciconfig = section.uciconfig;
	},
	/** A choice. */
	value(key, label) {
		const at = this.keylist.indexOf(String(key));
		if (at >= 0)
			this.vallist[at] = label ?? key;
		else {
			this.keylist.push(String(key));
			this.vallist.push(label ?? key);
		}
	},
	depends(name, value) {
		this.deps.push(L.isObject(name) ? name : { [name]: value });
	},
	remember(section_id, value) {
		this.known.set(section_id, value ?? null);
	},
	forget(section_id) {
		this.fields.delete(section_id);
	},
	isRendered(section_id) {
		return this.fields.get(section_id)?.row.isConnected ?? false;
	},
	ucisection(section_id) {
		return this.ucisectionname ?? section_id;
	},
	load(section_id) {
		return uci.get(this.uciconfig ?? this.config, section_id, this.ucioption ?? this.option);
	},
	cfgvalue(section_id, value) {
		if (value !== undefined)
			this.remember(section_id, value);
		return this.known.get(section_id) ?? null;
	},
	formvalue(section_id) {
		return this.fields.get(section_id)?.read() ?? null;
	},
	textvalue(section_id) {
		const value = this.cfgvalue(section_id) ?? this.default;
		if (isEmpty(value))
			return '';
		return L.toArray(value).map((item) => this.vallist[this.keylist.indexOf(String(item))] ?? item).join(', ');
	},
	cbid(section_id) {
		return `cbid.${this.uciconfig ?? this.config}.${section_id}.${this.option}`;
	},
	/** What a condition is about, as the page shows it now. */
	isActive(section_id) {
		const row = this.fields.get(section_id)?.row;
		return Boolean(row) && !row.classList.contains('hidden');
	},
	fits(section_id, condition) {
		return Object.entries(condition).every(([name, wanted]) => {
			if (name.startsWith('!'))
				return true;
			const other = this.section.getOption(name);
			const value = (other && other.isRendered(section_id)) ? (other.isActive(section_id) ? other.formvalue(section_id) : null) : uci.get(this.uciconfig ?? this.config, section_id, name);
			const is = value ?? '';
			if (wanted instanceof RegExp)
				return wanted.test(is);
			return Array.isArray(wanted) ? wanted.includes(is) : String(is) === String(wanted);
		});
	},
	checkDepends() {
		for (const [section_id, { row }] of this.fields)
			row.classList.toggle('hidden', this.deps.length > 0 && !this.deps.some((condition) => this.fits(section_id, condition)));
	},
	validate: () => true,
	/** Why a value will not do, or null. */
	complaint(section_id, value) {
		if (isEmpty(value)) {
			if (!this.optional && this.rmempty === false)
				return _('Expecting: %s').format(_('non-empty value'));
			const verdict = this.validate(section_id, value ?? '');
			return verdict === true || verdict === null || verdict === undefined ? null : String(verdict);
		}
		for (const item of Array.isArray(value) ? value : [value]) {
			const wrong = validation.check(this.datatype, String(item));
			if (wrong !== null)
				return wrong;
			const verdict = this.validate(section_id, item);
			if (verdict !== true && verdict !== null && verdict !== undefined)
				return String(verdict);
		}
		return null;
	},
	isValid(section_id) {
		return this.getValidationError(section_id) === '';
	},
	getValidationError(section_id) {
		return this.complaint(section_id, this.formvalue(section_id)) ?? '';
	},
	/** Marks the field, with the reason beside it. */
	triggerValidation(section_id) {
		const field = this.fields.get(section_id);
		const wrong = field && this.isActive(section_id) ? this.getValidationError(section_id) : '';
		if (field) {
			field.row.classList.toggle('cbi-value-error', wrong !== '');
			field.row.querySelectorAll('input, select, textarea').forEach((control) => {
				control.classList.toggle('cbi-input-invalid', wrong !== '');
				control.setAttribute('aria-invalid', String(wrong !== ''));
			});
			field.complaint.textContent = wrong;
		}
		return wrong === '';
	},
	changed(section_id) {
		this.map.checkDepends();
		this.triggerValidation(section_id);
		this.onchange?.(null, section_id, this.formvalue(section_id));
	},
	async parse(section_id) {
		if (!this.isActive(section_id))
			return (this.retain || !this.fields.has(section_id)) ? null : this.remove(section_id);
		if (!this.triggerValidation(section_id)) {
			const title = String(this.title || this.option);
			L.raise('TypeError', '%s', `${_('Option "%s" contains an invalid input value.').format(title)} ${this.getValidationError(section_id)}`);
		}
		const is = this.formvalue(section_id);
		if (isEmpty(is))
			return (this.rmempty || this.optional) ? this.remove(section_id) : null;
		if (this.forcewrite || !same(is, this.cfgvalue(section_id)))
			return this.write(section_id, is);
		return null;
	},
	write(section_id, value) {
		return uci.set(this.uciconfig ?? this.config, section_id, this.ucioption ?? this.option, value);
	},
	remove(section_id) {
		return uci.unset(this.uciconfig ?? this.config, section_id, this.ucioption ?? this.option);
	},
	/** `{ node, read }`: the controls, and how to read them. */
	renderWidget: () => ({ node: E([]), read: () => null }),
	async renderRow(section_id, bare) {
		// LuCI reads the value again from what `cfgvalue` says.
		const value = this.cfgvalue(section_id) ?? this.default;
		const { node, read, control } = await this.renderWidget(section_id, value);
		const complaint = E('div', { 'class': 'cbi-value-complaint', role: 'alert', id: `${this.cbid(section_id)}.complaint` });
		const title = [this.title].flat();
		const label = (bare || !this.title) ? null : E(control ? 'label' : 'span', { 'class': 'cbi-value-title', for: control ? `widget.${this.cbid(section_id)}` : null }, title);
		const help = (!bare && this.description) ? E('div', { 'class': 'cbi-value-description', id: `${this.cbid(section_id)}.help` }, [this.description].flat()) : null;
		control?.setAttribute('aria-describedby', [help?.id, complaint.id].filter(Boolean).join(' '));
		if (bare && control)
			control.setAttribute('aria-label', String(this.title));
		const parts = bare ? [node, complaint] : [label, E('div', { 'class': 'cbi-value-field' }, [node, complaint, help].filter(Boolean))];
		const row = E('div', { 'class': bare ? 'cbi-value-bare' : 'cbi-value', id: `cbi-${this.config}-${section_id}-${this.option}`, 'data-name': this.option, 'data-field': this.cbid(section_id) }, parts.filter(Boolean));
		this.fields.set(section_id, { row, read, complaint });
		row.addEventListener('change', () => this.changed(section_id));
		row.addEventListener('focusout', () => this.triggerValidation(section_id));
		if (this.readonly)
			row.querySelectorAll('input, select, textarea').forEach((entry) => { entry.disabled = true; });
		return row;
	},
	render(section_id) {
		return this.renderRow(section_id, false);
	},
	renderBare(section_id) {
		return this.renderRow(section_id, true);
	},
});

let lists = 0;

/** Suggestions of a text field. */
const suggestions = (option) => {
	if (!option.keylist.length)
		return null;
	const list = E('datalist', { id: `suggestions${lists++}` }, option.keylist.map((key, index) => E('option', { value: key }, [String(option.vallist[index])])));
	return list;
};

const Value = AbstractValue.extend({
	__name__: 'CBI.Value',
	renderWidget(section_id, value) {
		const list = suggestions(this);
		const control = E('input', {
			type: this.password ? 'password' : 'text', id: `widget.${this.cbid(section_id)}`, 'class': this.password ? 'cbi-input-password' : 'cbi-input-text',
			value: isEmpty(value) ? '' : Array.isArray(value) ? value.join(' ') : String(value), placeholder: this.placeholder ?? null, autocomplete: this.password ? 'new-password' : 'off', list: list?.id ?? null,
		});
		const reveal = this.password ? E('button', { type: 'button', 'class': 'cbi-button cbi-button-neutral', 'aria-label': _('Reveal/hide password'), click: () => {
			control.type = control.type === 'password' ? 'text' : 'password';
		} }, ['∗']) : null;
		const node = E('div', { 'class': reveal ? 'control-group' : '' }, [control, list, reveal].filter(Boolean));
		return { node, control, read: () => control.value.trim() };
	},
});

const DynamicList = Value.extend({
	__name__: 'CBI.DynamicList',
	renderWidget(section_id, value) {
		const items = L.toArray(value).map(String);
		const list = suggestions(this);
		const control = E('input', { type: 'text', id: `widget.${this.cbid(section_id)}`, 'class': 'cbi-input-text', placeholder: this.placeholder ?? null, autocomplete: 'off', list: list?.id ?? null });
		const holder = E('div', { 'class': 'dynlist-items' });
		const draw = () => holder.replaceChildren(...items.map((item, index) => E('div', { 'class': 'item', 'data-value': item }, [
			E('span', {}, [String(this.vallist[this.keylist.indexOf(item)] ?? item)]),
			E('button', { type: 'button', 'class': 'cbi-button cbi-button-remove', 'aria-label': _('Remove %s').format(item), click: () => {
				items.splice(index, 1);
				draw();
				this.changed(section_id);
			} }, ['×']),
		])));
		const add = () => {
			const text = control.value.trim();
			if (text && !items.includes(text)) {
				items.push(text);
				control.value = '';
				draw();
				this.changed(section_id);
			}
		};
		control.addEventListener('keydown', (event) => {
			if (event.key === 'Enter') {
				event.preventDefault();
				add();
			}
		});
		draw();
		const plus = E('button', { type: 'button', 'class': 'cbi-button cbi-button-add', 'aria-label': _('Add item'), click: add }, ['+']);
		const node = E('div', { 'class': 'cbi-dynlist' }, [holder, E('div', { 'class': 'control-group' }, [control, list, plus].filter(Boolean))]);
		// What is typed counts, even where nobody pressed the button.
		return { node, control, read: () => [...items, ...(control.value.trim() && !items.includes(control.value.trim()) ? [control.value.trim()] : [])] };
	},
});

const ListValue = Value.extend({
	__name__: 'CBI.ListValue',
	renderWidget(section_id, value) {
		const chosen = isEmpty(value) ? '' : String(value);
		const keys = this.keylist.slice();
		const labels = this.vallist.slice();
		if ((this.optional || chosen === '') && !keys.includes('') && (this.optional || this.rmempty === false)) {
			keys.unshift('');
			labels.unshift('-- Please choose --');
		}
		// A value that is no choice stays what it is.
		if (chosen !== '' && !keys.includes(chosen)) {
			keys.push(chosen);
			labels.push(chosen);
		}
		const control = E('select', { id: `widget.${this.cbid(section_id)}`, 'class': 'cbi-input-select' }, keys.map((key, index) => E('option', { value: key, selected: key === chosen ? '' : null }, [String(labels[index])])));
		return { node: E('div', {}, [control]), control, read: () => control.value };
	},
});

const Flag = Value.extend({
	__name__: 'CBI.Flag',
	__init__(...args) {
		this.super('__init__', ...args);
		this.enabled = '1';
		this.disabled = '0';
		this.default = this.disabled;
	},
	renderWidget(section_id, value) {
		const control = E('input', { type: 'checkbox', id: `widget.${this.cbid(section_id)}`, 'class': 'cbi-input-checkbox', checked: String(value) === this.enabled ? '' : null });
		return { node: E('div', { 'class': 'cbi-checkbox' }, [control]), control, read: () => (control.checked ? this.enabled : this.disabled) };
	},
	textvalue(section_id) {
		return String(this.cfgvalue(section_id) ?? this.default) === this.enabled ? _('Yes') : _('No');
	},
	async parse(section_id) {
		if (!this.isActive(section_id))
			return this.retain ? null : this.remove(section_id);
		const is = this.formvalue(section_id);
		if (is === this.default && (this.optional || this.rmempty))
			return this.remove(section_id);
		return same(is, this.cfgvalue(section_id)) ? null : this.write(section_id, is);
	},
});

/** Several of the choices; with `single()` one. */
const MultiValue = Value.extend({
	__name__: 'CBI.MultiValue',
	single: () => false,
	renderWidget(section_id, value) {
		if (this.single()) {
			this.optional = this.optional || this.rmempty;
			return ListValue.prototype.renderWidget.call(this, section_id, L.toArray(value)[0] ?? '');
		}
		const chosen = L.toArray(value).map(String);
		const keys = [...this.keylist, ...chosen.filter((key) => !this.keylist.includes(key))];
		const boxes = keys.map((key) => {
			const box = E('input', { type: 'checkbox', value: key, checked: chosen.includes(key) ? '' : null });
			return { box, label: E('label', {}, [box, ' ', String(this.vallist[this.keylist.indexOf(key)] ?? key)]) };
		});
		const node = E('div', { 'class': 'cbi-dropdown multi', role: 'group', 'aria-label': String(this.title) }, boxes.map(({ label }) => label));
		return { node, read: () => boxes.filter(({ box }) => box.checked).map(({ box }) => box.value) };
	},
});

const TextValue = Value.extend({
	__name__: 'CBI.TextValue',
	renderWidget(section_id, value) {
		const control = E('textarea', { id: `widget.${this.cbid(section_id)}`, 'class': 'cbi-input-textarea', rows: this.rows ?? 5, wrap: this.wrap ?? null }, [isEmpty(value) ? '' : String(value)]);
		return { node: E('div', {}, [control]), control, read: () => control.value };
	},
});

const DummyValue = Value.extend({
	__name__: 'CBI.DummyValue',
	renderWidget(section_id, value) {
		const shown = this.textvalue === Value.prototype.textvalue ? value : this.textvalue(section_id);
		const node = E('div', { 'class': 'cbi-dummy' });
		if (shown instanceof Node)
			node.append(shown);
		else if (this.rawhtml)
			node.innerHTML = String(shown ?? '');
		else
			node.textContent = String(shown ?? '');
		return { node, read: () => null };
	},
	parse: () => null,
	write: () => null,
	remove: () => null,
});

const Button = Value.extend({
	__name__: 'CBI.Button',
	renderWidget(section_id) {
		const label = typeof this.inputtitle === 'function' ? this.inputtitle(section_id) : this.inputtitle ?? this.title;
		const node = E('button', { type: 'button', id: `widget.${this.cbid(section_id)}`, 'class': `cbi-button cbi-button-${this.inputstyle ?? 'button'}`, click: ui.createHandlerFn(this, function press(event) {
			return this.onclick?.(event, section_id);
		}) }, [String(label)]);
		return { node: E('div', {}, [node]), read: () => null };
	},
	textvalue: () => '',
	parse: () => null,
	write: () => null,
	remove: () => null,
});

const HiddenValue = Value.extend({
	__name__: 'CBI.HiddenValue',
	renderWidget(section_id, value) {
		const control = E('input', { type: 'hidden', id: `widget.${this.cbid(section_id)}`, value: value ?? '' });
		return { node: E('div', {}, [control]), read: () => control.value };
	},
});

return baseclass.extend({
	kinds: { Value, DynamicList, ListValue, Flag, MultiValue, TextValue, DummyValue, Button, HiddenValue },
});
