// SPDX-License-Identifier: Apache-2.0
// What dynapoint answers, in words.
'use strict';
'require baseclass';
'require rpc';
'require steadynode.page as page';
'require steadynode.daemon as daemon';

const status = rpc.declare({ object: 'dynapoint', method: 'status' });

const STATES = {
	online: ['ok', _('online')],
	degraded: ['warn', _('degraded')],
	portal: ['warn', _('captive portal')],
	offline: ['bad', _('offline')],
	unknown: ['idle', _('not known yet')],
	disabled: ['idle', _('switched off')],
};

return baseclass.extend({
	STATES,

	calls: { status: daemon.calls(status) },

	banner: () => daemon.banner('dynapoint', '/etc/init.d/dynapoint'),

	word: (state) => STATES[state]?.[1] ?? String(state ?? '–'),

	tone: (state) => STATES[state]?.[0] ?? 'idle',

	badge: (state) => page.badge(STATES[state]?.[0] ?? 'idle', STATES[state]?.[1] ?? String(state ?? '–')),
});
