// SPDX-License-Identifier: Apache-2.0
// What every page is made of.
'use strict';
'require baseclass';
'require ui';

return baseclass.extend({
	__name__: 'view',
	/** Shows the page: loads, renders, adds the buttons of forms. */
	async __show__(place) {
		const data = await this.load();
		const nodes = await this.render(data);
		place.replaceChildren(...[nodes].flat().filter((node) => node instanceof Node));
		place.append(this.addFooter());
	},
	load: () => Promise.resolve(),
	render: () => E([]),
	handleSave: () => Promise.all(Array.from(document.querySelectorAll('#maincontent .cbi-map')).map((map) => L.dom.callClassMethod(map, 'save'))),
	handleSaveApply(event, mode) {
		return this.handleSave(event).then(() => ui.changes.apply(mode === '0'));
	},
	handleReset: () => Promise.all(Array.from(document.querySelectorAll('#maincontent .cbi-map')).map((map) => L.dom.callClassMethod(map, 'reset'))),
	addFooter() {
		const forms = Array.from(document.querySelectorAll('#maincontent .cbi-map')).map((map) => L.dom.findClassInstance(map));
		const readonly = forms.some((form) => form?.readonly) || !L.hasViewPermission();
		const button = (handler, label, kind, ...args) => (typeof this[handler] === 'function')
			? E('button', { type: 'button', 'class': `cbi-button cbi-button-${kind}`, disabled: readonly ? '' : null, click: ui.createHandlerFn(this, handler, ...args) }, [label])
			: null;
		const buttons = [
			button('handleSaveApply', _('Save & Apply'), 'apply important', '0'),
			button('handleSave', _('Save'), 'save'),
			button('handleReset', _('Reset'), 'reset'),
		].filter(Boolean);
		return buttons.length ? E('div', { 'class': 'cbi-page-actions' }, buttons) : E([]);
	},
});
