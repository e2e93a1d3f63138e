// SPDX-License-Identifier: Apache-2.0
// Messages, dialogs, tabs, and what becomes of changes.
'use strict';
'require baseclass';
'require uci';

let dialog = null;
let opener = null;

const ui = {
	/** A message above the page; the last words are its classes. */
	addNotification(title, children, ...classes) {
		const node = E('div', { 'class': ['alert-message', 'fade-in', ...classes].join(' '), role: 'alert' }, [
			E('div', { 'class': 'alert-text' }, [
				...(title ? [E('h4', {}, [title])] : []),
				...[children].flat().filter((child) => child !== null && child !== undefined),
			]),
			E('button', { type: 'button', 'class': 'btn', click: () => node.remove() }, [_('Dismiss')]),
		]);
		document.getElementById('view').before(node);
		return node;
	},
	addTimeLimitedNotification(title, children, timeout, ...classes) {
		const node = ui.addNotification(title, children, ...classes);
		window.setTimeout(() => node.remove(), timeout);
		return node;
	},
	showModal(title, children, ...classes) {
		const had = dialog !== null;
		if (!had) {
			opener = document.activeElement;
			dialog = document.createElement('dialog');
			dialog.id = 'modal_overlay';
			dialog.addEventListener('cancel', (event) => event.preventDefault());
			document.body.appendChild(dialog);
		}
		const heading = title ? [E('h4', { id: 'modal_title' }, [title])] : [];
		const content = Array.isArray(children) ? children : [children];
		const node = E('div', { 'class': ['modal', ...classes].join(' ') }, [...heading, ...content.filter((child) => child !== null && child !== undefined)]);
		dialog.replaceChildren(node);
		dialog.setAttribute('aria-labelledby', 'modal_title');
		if (!had)
			dialog.showModal();
		return node;
	},
	hideModal() {
		dialog?.close();
		dialog?.remove();
		dialog = null;
		opener?.focus?.();
	},
	/** A handler during whose work the button is busy. */
	createHandlerFn(self, handler, ...args) {
		const work = typeof handler === 'string' ? self[handler] : handler;
		if (typeof work !== 'function')
			return null;
		return function handle(event) {
			const node = event.currentTarget;
			node.classList.add('spinning');
			node.disabled = true;
			node.blur();
			return Promise.resolve().then(() => work.apply(self, [...args, event, node])).catch((error) => {
				if (error && !error.shown)
					ui.addNotification(null, E('p', {}, [String(error.message ?? error)]), 'error');
			}).finally(() => {
				node.classList.remove('spinning');
				node.disabled = false;
			});
		};
	},
	/** A tooltip is the title here. */
	showTooltip: () => {},
	hideTooltip: () => {},
	itemlist(node, items, separators) {
		const parts = [];
		for (let index = 0; index < items.length; index += 2)
			if (items[index + 1] !== null && items[index + 1] !== undefined)
				parts.push(...(parts.length ? [separators ? E('br') : ', '] : []), E('strong', {}, [`${items[index]}: `]), String(items[index + 1]));
		return L.dom.content(node, parts);
	},
	tabs: {
		/** Makes tabs of nodes with `data-tab` and `data-tab-title`. */
		initTabGroup(panes) {
			const list = Array.from(panes).filter((pane) => pane.dataset?.tab);
			const group = list[0]?.parentNode;
			if (!group)
				return;
			const menu = E('ul', { 'class': 'cbi-tabmenu', role: 'tablist' });
			const show = (name) => {
				for (const pane of list)
					pane.dataset.tabActive = String(pane.dataset.tab === name);
				for (const tab of menu.children) {
					const on = tab.dataset.tab === name;
					tab.className = on ? 'cbi-tab' : 'cbi-tab-disabled';
					tab.firstElementChild.setAttribute('aria-selected', String(on));
				}
				list.find((pane) => pane.dataset.tab === name)?.dispatchEvent(new CustomEvent('cbi-tab-active', { detail: { tab: name } }));
			};
			for (const pane of list) {
				const link = E('a', { href: '#', role: 'tab', click: (event) => {
					event.preventDefault();
					show(pane.dataset.tab);
				} }, [pane.dataset.tabTitle]);
				menu.appendChild(E('li', { 'class': 'cbi-tab-disabled', 'data-tab': pane.dataset.tab }, [link]));
			}
			group.insertBefore(menu, list[0]);
			show((list.find((pane) => pane.dataset.tabActive === 'true') ?? list[0]).dataset.tab);
		},
	},
	changes: {
		/** Says in the header how many changes wait. */
		async setIndicator() {
			const count = Object.values(await L.resolveDefault(uci.changes(), {})).reduce((sum, list) => sum + list.length, 0);
			const node = document.getElementById('changes');
			if (node) {
				node.textContent = count ? _('Unsaved Changes: %d').format(count) : '';
				node.hidden = !count;
			}
			return count;
		},
		init() {
			return this.setIndicator();
		},
		/** Applies what was saved; `checked` has it taken back if this browser cannot confirm it. */
		async apply(checked) {
			if (!await this.setIndicator()) {
				ui.addTimeLimitedNotification(null, E('p', {}, [_('There are no changes to apply.')]), 4000, 'info');
				return;
			}
			try {
				await (checked === false ? uci.applyUnchecked() : uci.apply());
				ui.addTimeLimitedNotification(null, E('p', {}, [_('Configuration changes applied.')]), 4000, 'info');
				document.dispatchEvent(new CustomEvent('uci-applied'));
			} catch (error) {
				ui.addNotification(null, E('p', {}, [_('Failed to apply: %s').format(error.message)]), 'error');
			}
			await this.setIndicator();
		},
		async revert() {
			for (const config of Object.keys(await uci.changes()))
				await uci.revert(config);
			window.location.reload();
		},
		async displayChanges() {
			const changes = await uci.changes();
			const rows = Object.entries(changes).flatMap(([config, list]) => list.map((change) => E('code', { 'class': 'change' }, [`${config}: ${change.join(' ')}`])));
			ui.showModal(_('Configuration / Changes'), [
				E('div', { 'class': 'uci-change-list' }, rows),
				E('div', { 'class': 'button-row' }, [
					E('button', { type: 'button', 'class': 'btn', click: () => ui.hideModal() }, [_('Close')]),
					E('button', { type: 'button', 'class': 'btn cbi-button-apply', click: () => {
						ui.hideModal();
						return this.apply(true);
					} }, [_('Save & Apply')]),
					E('button', { type: 'button', 'class': 'btn cbi-button-reset', click: () => this.revert() }, [_('Revert')]),
				]),
			]);
		},
	},
};

return baseclass.extend(ui);
