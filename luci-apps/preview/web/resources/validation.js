// SPDX-License-Identifier: Apache-2.0
// Data types of options: `port`, `range(1,9)`, `or(ip4addr,hostname)`, `list(uinteger)` and the like.
'use strict';
'require baseclass';

const isInteger = (text) => /^-?\d+$/.test(text);
const isDecimal = (text) => /^-?\d+(\.\d*)?$|^-?\.\d+$/.test(text);
const octets = (text) => {
	const parts = text.split('.');
	return parts.length === 4 && parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) <= 255);
};
const v6 = (text) => {
	if (!text.includes(':'))
		return false;
	try {
		return Boolean(new URL(`http://[${text}]/`));
	} catch {
		return false;
	}
};
const network = (address, most) => (text) => {
	const [host, prefix, more] = text.split('/');
	return more === undefined && address(host) && (prefix === undefined || (/^\d+$/.test(prefix) && Number(prefix) <= most));
};
const hostname = (text) => text.length <= 253 && /^[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,62}\.)*[a-zA-Z0-9_-]{0,63}\.?$/.test(text) && /[a-zA-Z]/.test(text);

/** Name to test and what to say: `(text, ...arguments)`. */
const types = {
	integer: [isInteger, () => _('valid integer value')],
	uinteger: [(text) => isInteger(text) && Number(text) >= 0, () => _('positive integer value')],
	float: [isDecimal, () => _('valid decimal value')],
	ufloat: [(text) => isDecimal(text) && Number(text) >= 0, () => _('positive decimal value')],
	port: [(text) => /^\d+$/.test(text) && Number(text) <= 65535, () => _('valid port value')],
	portrange: [(text) => /^\d+(-\d+)?$/.test(text) && text.split('-').every((port) => Number(port) <= 65535), () => _('valid port or port range (port1-port2)')],
	range: [(text, low, high) => isDecimal(text) && Number(text) >= Number(low) && Number(text) <= Number(high), (low, high) => _('value between %s and %s').format(low, high)],
	min: [(text, low) => isDecimal(text) && Number(text) >= Number(low), (low) => _('value greater or equal to %s').format(low)],
	max: [(text, high) => isDecimal(text) && Number(text) <= Number(high), (high) => _('value smaller or equal to %s').format(high)],
	length: [(text, size) => text.length === Number(size), (size) => _('value with %d characters').format(size)],
	rangelength: [(text, low, high) => text.length >= Number(low) && text.length <= Number(high), (low, high) => _('value between %d and %d characters').format(low, high)],
	minlength: [(text, low) => text.length >= Number(low), (low) => _('value with at least %d characters').format(low)],
	maxlength: [(text, high) => text.length <= Number(high), (high) => _('value with at most %d characters').format(high)],
	bool: [(text) => ['0', '1', 'yes', 'no', 'on', 'off', 'true', 'false', 'enabled', 'disabled'].includes(text), () => _('One of the following: %s').format('0, 1, yes, no, on, off, true, false')],
	string: [() => true, () => ''],
	ip4addr: [network(octets, 32), () => _('valid IPv4 address')],
	ip6addr: [network(v6, 128), () => _('valid IPv6 address')],
	ipaddr: [(text) => network(octets, 32)(text) || network(v6, 128)(text), () => _('valid IP address')],
	cidr4: [(text) => text.includes('/') && network(octets, 32)(text), () => _('valid IPv4 CIDR')],
	cidr6: [(text) => text.includes('/') && network(v6, 128)(text), () => _('valid IPv6 CIDR')],
	cidr: [(text) => text.includes('/') && (network(octets, 32)(text) || network(v6, 128)(text)), () => _('valid IPv4 or IPv6 CIDR')],
	hostname: [hostname, () => _('valid hostname')],
	host: [(text) => hostname(text) || octets(text) || v6(text), () => _('valid hostname or IP address')],
	hostport: [(text) => {
		const match = /^\[?(.+?)\]?:(\d+)$/.exec(text);
		return Boolean(match) && types.host[0](match[1]) && types.port[0](match[2]);
	}, () => _('valid host:port')],
	macaddr: [(text) => /^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$/.test(text), () => _('valid MAC address')],
	uciname: [(text) => /^[a-zA-Z0-9_]+$/.test(text), () => _('valid UCI identifier')],
	device: [(text) => /^[^\s/]{1,15}$/.test(text), () => _('valid network device name')],
	file: [(text) => text.startsWith('/'), () => _('valid path')],
	directory: [(text) => text.startsWith('/'), () => _('valid path')],
	hexstring: [(text) => /^([0-9a-fA-F]{2})+$/.test(text), () => _('hexadecimal encoded value')],
};

/** `name(a,b(c,d))` as `[name, [[a, []], [b, …]]]`. */
const parse = (code) => {
	let at = 0;
	const term = () => {
		let name = '';
		if (code[at] === '"' || code[at] === "'") {
			const quote = code[at++];
			while (at < code.length && code[at] !== quote)
				name += code[at] === '\\' ? code[++at] : code[at], at++;
			at++;
			return { text: name, args: null };
		}
		while (at < code.length && !'(),'.includes(code[at]))
			name += code[at++];
		let args = null;
		if (code[at] === '(') {
			args = [];
			at++;
			while (at < code.length && code[at] !== ')') {
				args.push(term());
				if (code[at] === ',')
					at++;
			}
			at++;
		}
		return { text: name.trim(), args };
	};
	return term();
};

/** Why a text does not fit, or null. */
const test = ({ text: name, args }, value) => {
	switch (name) {
	case 'or': {
		const said = (args ?? []).map((part) => test(part, value));
		return said.includes(null) ? null : _('One of the following: %s').format(said.join(', '));
	}
	case 'and':
		return (args ?? []).map((part) => test(part, value)).find((said) => said !== null) ?? null;
	case 'neg':
		return test(args[0], value.replace(/^\s*!\s*/, ''));
	case 'list':
		return value.split(/\s+/).map((item) => test(args[0], item)).find((said) => said !== null) ?? null;
	default: {
		const type = types[name];
		if (!type) {
			// A word stands for itself, as in or("auto", uinteger).
			return value === name ? null : `"${name}"`;
		}
		const texts = (args ?? []).map((part) => part.text);
		return type[0](value, ...texts) ? null : type[1](...texts);
	}
	}
};

return baseclass.extend({
	/** Why `value` is none of data type `code`, as a sentence; null where it is one. */
	check(code, value) {
		const said = code ? test(parse(code), value) : null;
		return said === null ? null : _('Expecting: %s').format(said);
	},
	types,
});
