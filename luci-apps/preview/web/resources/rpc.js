// SPDX-License-Identifier: Apache-2.0
// Calls over /ubus.
'use strict';
'require baseclass';

let next = 1;
let session = L.env.sessionid;

/** `expect: { name: fallback }`: that key of the reply, if it is of the fallback's type. The empty name means all of it. */
const expected = (expect, reply) => {
	if (!expect)
		return reply;
	for (const [name, fallback] of Object.entries(expect)) {
		const found = (name === '') ? reply : L.isObject(reply) ? reply[name] : undefined;
		const kind = (value) => Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value;
		if (found === undefined || found === null || (fallback !== null && kind(fallback) !== 'undefined' && kind(found) !== kind(fallback)))
			return fallback;
		return found;
	}
	return reply;
};

const post = async (object, method, args) => {
	const body = JSON.stringify({ jsonrpc: '2.0', id: next++, method: 'call', params: [session, object, method, args] });
	const response = await fetch(L.env.ubuspath, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body, credentials: 'same-origin' });
	if (!response.ok)
		L.raise('RPCError', 'RPC call to %s/%s failed with HTTP error %d: %s', object, method, response.status, response.statusText);
	const message = await response.json();
	if (message.error)
		L.raise(message.error.code === -32002 ? 'PermissionError' : 'RPCError', 'RPC call to %s/%s failed with error %d: %s', object, method, message.error.code, message.error.message);
	return message.result;
};

return baseclass.extend({
	/** A function that calls the method; its arguments go by the names in `params`. */
	declare(options) {
		return async (...given) => {
			const args = {};
			(options.params ?? []).forEach((name, index) => {
				if (given[index] !== undefined)
					args[name] = given[index];
			});
			const [status, data] = await post(options.object, options.method, args);
			if (options.reject && status !== 0)
				L.raise('RPCError', 'RPC call to %s/%s failed with ubus code %d: %s', options.object, options.method, status, this.getStatusText(status));
			const reply = expected(options.expect, data === undefined ? status : data);
			return options.filter ? options.filter(reply, args, ...given.slice((options.params ?? []).length)) : reply;
		};
	},
	list: () => Promise.resolve({}),
	getSessionID: () => session,
	setSessionID: (id) => { session = id; },
	getBaseURL: () => L.env.ubuspath,
	getStatusText: (status) => ['Command OK', 'Invalid command', 'Invalid argument', 'Method not found', 'Resource not found', 'No data received', 'Permission denied', 'Request timeout', 'Not supported', 'Unspecified error', 'Connection lost'][status] ?? 'Unknown error code',
});
