// SPDX-License-Identifier: Apache-2.0
// The box on LuCI's status page.
'use strict';
'require baseclass';
'require powquty.common as powquty';
'require steadynode.page as page';

const { el, number, quantity } = page;

return baseclass.extend({
	title: _('Power quality'),

	load: () => powquty.calls.status().catch((error) => error),

	render: (status) => {
		if (status instanceof Error)
			return status.kind === 'denied' ? null : page.frame(null, el('p', {}, page.badge('idle', _('powqutyd: %s').format(status.message))));
		const { values, lights, source } = status;
		const off = (lights ?? []).filter(({ light }) => light === 'red' || light === 'yellow');
		return page.frame(null, page.facts([
			[_('Voltage'), quantity(values?.voltage, 1, 'V')],
			[_('Frequency'), quantity(values?.frequency, 3, 'Hz')],
			[_('THD'), quantity(values?.thd, 2, '%')],
			[_('EN 50160'), el('span', {}, powquty.light(powquty.worst(lights ?? [])),
				off.length ? `: ${off.map(({ characteristic }) => powquty.characteristic(characteristic)).join(', ')}` : '')],
			[_('Events'), Object.entries(status.events ?? {}).filter(([, count]) => count).map(([kind, count]) => `${powquty.kind(kind)} ${number(count, 0)}`).join(', ') || _('none')],
			[_('Source'), powquty.source(source)],
		]));
	},
});
