// SPDX-License-Identifier: Apache-2.0
// Choices of network devices and interfaces.
'use strict';
'require baseclass';
'require form';
'require network';

const chooser = (names) => ({
	__name__: 'CBI.Choice',
	async load(section) {
		const found = await names.call(this);
		for (const name of found)
			this.value(name);
		return this.super('load', section);
	},
	create: false,
});

const devices = chooser(() => network.getDevices().then((list) => list.map((device) => device.getName()).filter((name) => name !== 'lo')));
const networks = chooser(() => network.getNetworks().then((list) => list.map((entry) => entry.getName()).filter((name) => name !== 'loopback')));
const zones = chooser(() => Promise.resolve(['lan', 'wan']));

/** One of the names, or with `multiple` several. */
const select = (members) => form.MultiValue.extend({
	...members,
	single() {
		return !this.multiple;
	},
	custom: true,
});

return baseclass.extend({
	DeviceSelect: select(devices),
	NetworkSelect: select(networks),
	ZoneSelect: select(zones),
});
