// SPDX-License-Identifier: Apache-2.0
// Interfaces and devices, as far as the choices in forms need them.
'use strict';
'require baseclass';
'require rpc';

const devices = rpc.declare({ object: 'preview', method: 'devices', expect: { devices: [] } });
const interfaces = rpc.declare({ object: 'network.interface', method: 'dump', expect: { interface: [] } });

return baseclass.extend({
	getDevices: () => L.resolveDefault(devices(), []).then((names) => names.map((name) => ({ getName: () => name }))),
	getNetworks: () => L.resolveDefault(interfaces(), []).then((list) => list.map((entry) => ({
		getName: () => entry.interface,
		getProtocol: () => entry.proto,
		isUp: () => entry.up,
		getL3Device: () => (entry.l3_device ? { getName: () => entry.l3_device } : null),
	}))),
});
