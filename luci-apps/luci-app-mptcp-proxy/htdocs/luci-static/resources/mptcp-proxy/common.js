// SPDX-License-Identifier: Apache-2.0
// What mptcp-proxy answers, in words.
'use strict';
'require baseclass';
'require rpc';
'require steadynode.page as page';
'require steadynode.daemon as daemon';

const status = rpc.declare({ object: 'mptcp-proxy', method: 'status' });

const STATES = { up: ['ok', _('up')], down: ['bad', _('down')], unknown: ['idle', _('not known yet')] };

return baseclass.extend({
	calls: { status: daemon.calls(status) },

	banner: () => daemon.banner('mptcp-proxy', '/etc/init.d/mptcp-proxy'),

	tone: (state) => STATES[state]?.[0] ?? 'idle',

	badge: (state) => page.badge(...(STATES[state] ?? ['idle', String(state ?? '–')])),

	milliseconds: (seconds) => page.quantity(typeof seconds === 'number' ? seconds * 1000 : null, seconds < 0.01 ? 1 : 0, 'ms'),

	/** Colour of the path with this number. */
	colour: (index) => `c${1 + index % 6}`,
});
