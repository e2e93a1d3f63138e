// SPDX-License-Identifier: Apache-2.0
// The boxes that apps put on the overview page.
'use strict';
'require view';
'require poll';
'require rpc';

const includes = rpc.declare({ object: 'preview', method: 'includes', expect: { includes: [] } });

/** Loads and draws one box; one that fails says so and leaves the others alone. */
const update = async ({ box, place }) => {
	try {
		const nodes = await box.render(await (box.load?.() ?? null));
		place.replaceChildren(...[nodes].flat().filter((node) => node instanceof Node));
	} catch (error) {
		place.replaceChildren(E('p', { 'class': 'alert-message warning' }, [String(error.message)]));
	}
};

return view.extend({
	load: () => includes().then((names) => Promise.all(names.map((name) => L.require(`view.status.include.${name}`)))),
	async render(boxes) {
		const parts = boxes.map((box) => ({ box, place: E('div') }));
		await Promise.all(parts.map(update));
		poll.add(() => Promise.all(parts.map(update)), 5);
		return E('div', {}, parts.map(({ box, place }) => E('div', { 'class': 'cbi-section' }, [E('h3', {}, [box.title ?? '']), place])));
	},
	handleSaveApply: null,
	handleSave: null,
	handleReset: null,
});
