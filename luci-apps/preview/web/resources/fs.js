// SPDX-License-Identifier: Apache-2.0
// Files and programs of the router, as far as the ACLs permit.
'use strict';
'require baseclass';
'require rpc';

const call = (method, params, expect) => {
	const declared = rpc.declare({ object: 'file', method, params, expect: { '': null } });
	const kinds = { 2: 'InvalidArgumentError', 4: 'NotFoundError', 6: 'PermissionError' };
	return (...args) => declared(...args).then((reply) => {
		if (typeof reply === 'number' && reply !== 0)
			throw Object.assign(new Error(rpc.getStatusText(reply)), { name: kinds[reply] ?? 'Error' });
		return expect ? reply?.[expect[0]] ?? expect[1] : reply;
	});
};

return baseclass.extend({
	exec: call('exec', ['command', 'params', 'env']),
	read: call('read', ['path'], ['data', '']),
	stat: call('stat', ['path']),
	list: call('list', ['path'], ['entries', []]),
	trimmed(path) {
		return L.resolveDefault(this.read(path), '').then((text) => text.trim());
	},
	lines(path) {
		return L.resolveDefault(this.read(path), '').then((text) => text.split('\n').map((line) => line.trim()).filter(Boolean));
	},
});
