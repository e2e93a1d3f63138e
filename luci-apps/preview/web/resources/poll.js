// SPDX-License-Identifier: Apache-2.0
// Functions called again and again; one that is still at work is not called a second time.
'use strict';
'require baseclass';

const queue = [];
let timer = null;
let second = 0;

const tick = () => {
	for (const entry of queue.slice()) {
		if (entry.busy || second % entry.interval !== 0)
			continue;
		entry.busy = true;
		Promise.resolve().then(entry.work).finally(() => { entry.busy = false; });
	}
	second += 1;
};

return baseclass.extend({
	add(work, interval) {
		if (typeof work !== 'function' || queue.some((entry) => entry.work === work))
			return false;
		queue.push({ work, interval: interval || L.env.pollinterval, busy: false });
		if (!timer)
			this.start();
		return true;
	},
	remove(work) {
		const index = queue.findIndex((entry) => entry.work === work);
		if (index < 0)
			return false;
		queue.splice(index, 1);
		if (!queue.length)
			this.stop();
		return true;
	},
	start() {
		if (timer || !queue.length)
			return false;
		second = 0;
		timer = window.setInterval(tick, 1000);
		tick();
		return true;
	},
	stop() {
		if (!timer)
			return false;
		window.clearInterval(timer);
		timer = null;
		return true;
	},
	active: () => timer !== null,
});
