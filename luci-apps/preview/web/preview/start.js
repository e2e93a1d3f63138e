// SPDX-License-Identifier: Apache-2.0
// The ground under a page: classes, the loader of page files, and the names that LuCI makes global.
'use strict';

(() => {
	const env = JSON.parse(document.getElementById('env').textContent);

	/** A class in LuCI's way: `extend` makes a subclass of an object of members, `__init__` is the constructor. */
	const LEVEL = Symbol('level');
	function Base() {}
	Base.prototype = {
		/** Calls the overridden method of that name. */
		super(name, ...args) {
			const levels = this[LEVEL] ?? (this[LEVEL] = {});
			const before = levels[name];
			let level = before ?? Object.getPrototypeOf(this);
			while (level && !Object.hasOwn(level, name))
				level = Object.getPrototypeOf(level);
			do
				level = level && Object.getPrototypeOf(level);
			while (level && !Object.hasOwn(level, name));
			if (!level)
				return undefined;
			levels[name] = level;
			try {
				const member = level[name];
				// Both `super('name', [a, b])` and `super('name', a, b)` are in use.
				const list = (args.length === 1 && (Array.isArray(args[0]) || Object.prototype.toString.call(args[0]) === '[object Arguments]')) ? args[0] : args;
				return typeof member === 'function' ? member.apply(this, list) : member;
			} finally {
				levels[name] = before;
			}
		},
		varargs(args, skip) {
			return Array.prototype.slice.call(args, skip);
		},
		toString() {
			return `[${this.__name__ ?? 'Class'}]`;
		},
	};
	Object.defineProperty(Base.prototype, LEVEL, { value: null, writable: true, enumerable: false });

	const extendable = (constructor) => Object.assign(constructor, {
		extend(members) {
			const parent = constructor;
			const child = extendable(function Class(...args) {
				Object.defineProperty(this, LEVEL, { value: {}, writable: true, enumerable: false });
				if (typeof this.__init__ === 'function') {
					const replacement = this.__init__(...args);
					if (replacement && typeof replacement === 'object')
						return replacement;
				}
			});
			child.prototype = Object.create(parent.prototype, { constructor: { value: child, enumerable: false } });
			Object.assign(child.prototype, members);
			return child;
		},
		instantiate: (args) => new constructor(...args),
		singleton(members, ...args) {
			const Child = constructor.extend(members);
			return new Child(...args);
		},
		isSubclass: (other) => typeof other === 'function' && other.prototype instanceof constructor,
	});
	extendable(Base);

	/** Elements. As in LuCI a bare string for children is markup, and text only in a list. */
	const dom = {
		elem: (value) => value instanceof Node,
		append(node, children) {
			if (Array.isArray(children)) {
				for (const child of children)
					node.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
			} else if (typeof children === 'function') {
				dom.append(node, children(node));
			} else if (children instanceof Node) {
				node.appendChild(children);
			} else if (children !== null && children !== undefined) {
				node.innerHTML = String(children);
			}
			return node.lastChild;
		},
		content(node, children) {
			if (!(node instanceof Node))
				return null;
			node.replaceChildren();
			return dom.append(node, children);
		},
		attr(node, name, value) {
			const attributes = (name !== null && typeof name === 'object') ? name : { [name]: value };
			for (const [key, given] of Object.entries(attributes)) {
				if (given === null || given === undefined)
					continue;
				if (typeof given === 'function')
					node.addEventListener(key, given);
				else
					node.setAttribute(key, typeof given === 'object' ? JSON.stringify(given) : given);
			}
		},
		parse: (markup) => {
			const template = document.createElement('template');
			template.innerHTML = markup;
			return template.content.firstElementChild;
		},
		create(tag, attributes, children) {
			if (tag instanceof Node)
				return tag;
			const node = Array.isArray(tag)
				? document.createDocumentFragment()
				: tag.startsWith('<') ? dom.parse(tag) : document.createElement(tag);
			if (Array.isArray(tag))
				dom.append(node, tag);
			const plain = attributes !== null && typeof attributes === 'object' && !Array.isArray(attributes) && !(attributes instanceof Node);
			if (plain)
				dom.attr(node, attributes);
			dom.append(node, plain ? children : (attributes ?? children));
			return node;
		},
		bindClassInstance(node, instance) {
			instances.set(node, instance);
			return instance;
		},
		findClassInstance(node) {
			for (; node; node = node.parentNode)
				if (instances.has(node))
					return instances.get(node);
			return null;
		},
		callClassMethod(node, method, ...args) {
			const instance = dom.findClassInstance(node);
			return typeof instance?.[method] === 'function' ? instance[method](...args) : null;
		},
		matches: (node, selector) => node instanceof Element && node.matches(selector),
		parent: (node, selector) => (node instanceof Element ? node.closest(selector) : null),
		isEmpty: (node) => !node.firstElementChild,
	};
	const instances = new WeakMap();

	const escapes = { '&': '&#38;', '"': '&#34;', "'": '&#39;', '<': '&#60;', '>': '&#62;' };
	const markup = (value) => String(value).replace(/[&"'<>]/g, (c) => escapes[c]);

	/** `%d` and the like; `%h` escapes markup, `%t` is a time, `%1024.2mB` a number with a metric prefix. */
	const format = (template, args) => {
		let index = 0;
		const pattern = /%(?:(%)|('.|[0 ])?(-)?(\d+)?(?:\.(\d+))?([a-zA-Z]))/g;
		return template.replace(pattern, (whole, percent, pad, left, width, precision, kind) => {
			if (percent)
				return '%';
			const value = args[index++];
			const digits = precision === undefined ? undefined : Number(precision);
			const number = Number(value);
			let text;
			switch (kind) {
			case 'd': text = String(Math.trunc(number) || 0); break;
			case 'u': text = String(Math.abs(Math.trunc(number)) || 0); break;
			case 'f': text = (number || 0).toFixed(digits ?? 6); break;
			case 'x': text = (Math.trunc(number) || 0).toString(16); break;
			case 'X': text = (Math.trunc(number) || 0).toString(16).toUpperCase(); break;
			case 'o': text = (Math.trunc(number) || 0).toString(8); break;
			case 'b': text = (Math.trunc(number) || 0).toString(2); break;
			case 'c': text = String.fromCharCode(number); break;
			case 'j': text = JSON.stringify(value); break;
			case 'h': text = markup(value ?? ''); break;
			case 'q': text = String(value ?? '').replace(/["']/g, (c) => escapes[c]); break;
			case 't': text = clock(number); break;
			case 'm': return prefixed(number, Number(width ?? 1000) || 1000, digits ?? 2);
			default: text = digits === undefined ? String(value ?? '') : String(value ?? '').slice(0, digits);
			}
			if (width !== undefined) {
				const fill = pad === undefined ? ' ' : pad.replace("'", '');
				text = left ? text.padEnd(Number(width), fill) : text.padStart(Number(width), fill);
			}
			return text;
		});
	};

	const clock = (seconds) => {
		const [d, h, m, s] = [seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60].map((part) => Math.floor(part) || 0);
		return `${d ? `${d}d ` : ''}${h}h ${m}m ${s}s`;
	};

	const prefixed = (value, base, digits) => {
		const units = ['', 'K', 'M', 'G', 'T', 'P', 'E'];
		let unit = 0;
		for (; Math.abs(value) >= base && unit < units.length - 1; unit++)
			value /= base;
		return `${(value || 0).toFixed(digits)} ${units[unit]}${unit && base === 1024 ? 'i' : ''}`;
	};

	Object.defineProperty(String.prototype, 'format', {
		value(...args) {
			return format(String(this), args);
		},
		writable: true,
	});
	String.format = (template, ...args) => format(String(template), args);

	/** The translation of a text, or the text. */
	const translate = (text, context) => {
		const key = String(text).replace(/\s+/g, ' ').trim();
		const found = env.translations[context ? `${context}\u0004${key}` : key] ?? env.translations[context ? `${context}\u0004${text}` : text];
		return (Array.isArray(found) ? found[0] : found) ?? String(text);
	};
	/** As translate, in the form for a count: that of English and German. */
	const translateCount = (count, one, many, context) => {
		const found = env.translations[context ? `${context}\u0004${one}` : one];
		const forms = Array.isArray(found) ? found : [one, many];
		return count === 1 ? forms[0] : forms[forms.length - 1];
	};

	const loaded = new Map();
	const provided = {};

	/** The instance of a page file's class, loaded once. */
	const load = (name, path = []) => {
		if (path.includes(name))
			return Promise.reject(new Error(`circle of required files: ${[...path, name].join(' > ')}`));
		if (!loaded.has(name))
			loaded.set(name, compile(name, path));
		return loaded.get(name);
	};

	const compile = async (name, path) => {
		if (provided[name])
			return provided[name];
		const address = L.resource(`${name.replaceAll('.', '/')}.js`);
		const response = await fetch(address);
		if (!response.ok)
			throw new Error(`${address}: HTTP ${response.status}`);
		const source = await response.text();
		const needed = [];
		// The directives at the head of the file, between comments.
		const head = /^(?:\s|\/\/[^\n]*\n|\/\*[^]*?\*\/)*(?:'([^'\n]*)'|"([^"\n]*)")\s*;?/;
		let rest = source;
		for (let match = head.exec(rest); match; match = head.exec(rest)) {
			rest = rest.slice(match[0].length);
			const words = /^require\s+(\S+)(?:\s+as\s+([a-zA-Z_]\S*))?$/.exec((match[1] ?? match[2]).trim());
			if (words)
				needed.push({ file: words[1], as: words[2] ?? words[1].replaceAll(/[^a-zA-Z0-9_]/g, '_') });
		}
		const given = await Promise.all(needed.map(({ file }) => load(file, [...path, name])));
		const factory = new Function('window', 'document', 'L', ...needed.map(({ as }) => as), `${source}\n//# sourceURL=${address}`);
		const made = factory.call(window, window, document, L, ...given);
		if (typeof made !== 'function' || !Base.isSubclass(made))
			throw new TypeError(`${address}: does not return a class`);
		const instance = new made();
		instance.__name__ = name;
		// What a page takes as a base of its own class.
		return bases.has(name) ? made : instance;
	};
	const bases = new Set(['view', 'baseclass']);

	const L = {
		env: { sessionid: env.sessionid, dispatchpath: env.path.split('/'), requestpath: env.path.split('/'), resource: '/luci-static/resources', media: '/luci-static/preview', scriptname: '/cgi-bin/luci', nodespec: { satisfied: true, readonly: env.readonly }, apply_rollback: 90, apply_holdoff: 1, apply_timeout: 5, apply_display: 1.5, ubuspath: '/ubus/', pollinterval: 5 },
		Class: Base, dom, require: (name) => load(name),
		url: (...parts) => ['/cgi-bin/luci', ...parts.map((part) => String(part).replace(/^\/+|\/+$/g, ''))].join('/'),
		resource: (...parts) => ['/luci-static/resources', ...parts].join('/'),
		media: (...parts) => ['/luci-static/preview', ...parts].join('/'),
		location: () => L.url(env.path),
		resolveDefault: (value, otherwise) => Promise.resolve(value).catch(() => otherwise),
		bind: (work, self, ...args) => work.bind(self, ...args),
		toArray: (value) => Array.isArray(value) ? value : (value === null || value === undefined) ? [] : typeof value === 'object' ? [value] : String(value).trim() === '' ? [] : String(value).trim().split(/\s+/),
		isObject: (value) => value !== null && typeof value === 'object',
		isArguments: (value) => Object.prototype.toString.call(value) === '[object Arguments]',
		sortedKeys: (object) => Object.keys(object ?? {}).sort(),
		hasViewPermission: () => !env.readonly,
		hasSystemFeature: () => false,
		raise: (type, message, ...args) => { throw Object.assign(new Error(format(String(message), args)), { name: type }); },
		error: (type, message, ...args) => L.raise(type, message, ...args),
	};

	Object.assign(provided, { baseclass: Base, dom });
	Object.assign(window, { L, E: dom.create, _: translate, N_: translateCount });

	/** For the frame: what no page may use. */
	window.preview = { env, load, provided };

	load('frame').then((frame) => frame.start()).catch((error) => {
		const say = document.createElement('p');
		say.className = 'alert-message error';
		say.textContent = String(error?.stack ?? error);
		document.getElementById('view').replaceChildren(say);
		throw error;
	});
})();
