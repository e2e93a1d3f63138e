// SPDX-License-Identifier: Apache-2.0
// What is around a page: menu, tabs, users, languages, colours.
'use strict';
'require baseclass';
'require ui';
'require rpc';

const { env, load } = window.preview;
const below = (path) => env.path === path || env.path.startsWith(`${path}/`);

const link = (entry) => E('a', { href: L.url(entry.path), 'aria-current': below(entry.path) ? 'page' : null }, [_(entry.title)]);

const login = rpc.declare({ object: 'session', method: 'login', params: ['username', 'password'], expect: { ubus_rpc_session: '' } });
const remember = (name, value) => { document.cookie = `${name}=${value}; Path=/; SameSite=Strict; Max-Age=31536000`; };

const choice = (label, options, current, change) => E('label', {}, [
	E('span', {}, [label]),
	E('select', { 'aria-label': label, change: (event) => change(event.target.value) },
		options.map(([value, text]) => E('option', { value, selected: value === current ? '' : null }, [text]))),
]);

const scheme = () => window.localStorage.getItem('scheme') ?? 'auto';

/** As LuCI's own theme: `data-darkmode` on the root, by the system's wish or by choice. */
const paint = () => {
	const dark = scheme() === 'dark' || (scheme() === 'auto' && window.matchMedia('(prefers-color-scheme: dark)').matches);
	document.documentElement.dataset.darkmode = String(dark);
};

const header = () => {
	const groups = env.menu.filter((group) => group.children.length);
	document.getElementById('header').append(
		E('a', { 'class': 'brand', href: L.url('admin/status/overview') }, ['preview']),
		E('span', { 'class': 'brand-note' }, [_('not a router')]),
		E('nav', { 'aria-label': _('Main menu') }, groups.map((group) => E('details', { 'class': 'menu' }, [
			E('summary', { 'class': below(group.path) ? 'active' : '' }, [_(group.title)]),
			E('ul', {}, group.children.map((entry) => E('li', {}, [link(entry)]))),
		]))),
		E('button', { id: 'changes', type: 'button', hidden: '', click: () => ui.changes.displayChanges() }),
	);
	document.addEventListener('click', (event) => document.querySelectorAll('details.menu[open]').forEach((menu) => {
		if (!menu.contains(event.target))
			menu.open = false;
	}));
};

const footer = () => document.getElementById('footer').append(
	choice(_('User'), env.users.map((name) => [name, name]), env.user, async (name) => {
		remember('sysauth', await login(name, name));
		window.location.reload();
	}),
	choice(_('Language'), [['en', 'English'], ['de', 'Deutsch']], env.language, (language) => {
		remember('lang', language);
		window.location.reload();
	}),
	choice(_('Colours'), [['auto', _('automatic')], ['light', _('light')], ['dark', _('dark')]], scheme(), (value) => {
		window.localStorage.setItem('scheme', value);
		paint();
	}),
);

const tabs = () => {
	const group = env.menu.find((entry) => below(entry.path));
	const page = group?.children.find((entry) => below(entry.path));
	if (page)
		document.title = `${_(page.title)} – preview`;
	if (page?.children.length)
		document.getElementById('tabmenu').append(E('ul', { 'class': 'tabs' }, page.children.map((entry) => E('li', { 'class': below(entry.path) ? 'active' : '' }, [link(entry)]))));
};

return baseclass.extend({
	async start() {
		paint();
		window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paint);
		header();
		footer();
		tabs();
		const place = document.getElementById('view');
		if (!env.view) {
			place.replaceChildren(E('p', { 'class': 'alert-message warning' }, [_('There is no page here, or not for this user.')]));
			return;
		}
		// Rejections that nobody handles end on the page, as in LuCI.
		window.addEventListener('unhandledrejection', (event) => ui.addNotification(_('Unhandled error'), E('p', {}, [String(event.reason?.message ?? event.reason)]), 'error'));
		const view = await load(`view.${env.view.replaceAll('/', '.')}`);
		await view.__show__(place);
		document.body.dataset.ready = 'true';
		await ui.changes.setIndicator();
	},
});
