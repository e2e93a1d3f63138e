// SPDX-License-Identifier: Apache-2.0
// Talking to a daemon that may be absent, restarting or forbidden.
'use strict';
'require baseclass';
'require poll';
'require fs';
'require ui';
'require steadynode.page as page';

const { el, fill } = page;

/** The longest pause between two attempts, seconds. */
const LONGEST_PAUSE = 10;

/** Why a call gave nothing: `gone` (no such object on the bus), `denied` or `failed`. */
class CallFailure extends Error {
	constructor(kind, message) {
		super(message);
		this.name = 'CallFailure';
		this.kind = kind;
	}
}

const UBUS_CODES = {
	2: ['failed', _('the daemon does not accept these arguments')],
	3: ['failed', _('the daemon does not know this call')],
	4: ['gone', _('the daemon is not on the bus')],
	5: ['failed', _('there is no data')],
	6: ['denied', _('you are not permitted to do this')],
	7: ['failed', _('the daemon does not answer in time')],
};

const check = (reply) => {
	if (reply !== null && typeof reply === 'object') {
		const error = reply.error;
		// The daemon's own words travel beside the status.
		if (error !== null && typeof error === 'object' && error.code && error.message)
			throw new CallFailure(error.code === 'denied' ? 'denied' : 'failed', String(error.message));
		return reply;
	}
	if (reply === 0)
		return {};
	const [kind, message] = UBUS_CODES[reply] ?? ['failed', _('the call failed (%s)').format(String(reply))];
	throw new CallFailure(kind, message);
};

const refuse = (error) => {
	if (error instanceof CallFailure)
		throw error;
	const message = String(error?.message ?? error);
	if (message.includes('-32000') || message.includes('Object not found'))
		throw new CallFailure(...UBUS_CODES[4]);
	if (message.includes('-32002') || message.includes('Access denied') || error?.name === 'PermissionError')
		throw new CallFailure(...UBUS_CODES[6]);
	throw new CallFailure('failed', message);
};

/** A line at the top of the page: what is wrong, and what can be done about it. */
class Banner {
	constructor(name, script) {
		this.name = name;
		this.script = script;
		this.node = el('div', { 'class': 'sn-banner', role: 'status' });
		this.shown = null;
	}

	/** Shows why the page is not up to date. */
	show(error) {
		const kind = error?.kind ?? 'failed';
		const text = String(error?.message ?? error);
		if (this.shown === kind + text)
			return;
		this.shown = kind + text;
		this.mark(true);
		if (kind !== 'gone')
			return fill(this.node, el('div', { 'class': 'alert-message warning' }, el('p', {}, `${this.name}: ${text}`)));
		const start = L.hasViewPermission()
			? page.button(_('Start %s').format(this.name), () => this.start(), 'apply')
			: el('em', {}, _('You may look, but not start it.'));
		return fill(this.node, el('div', { 'class': 'alert-message warning' },
			el('p', {}, _('%s is not running, or is just starting. This page goes on by itself when it is back.').format(this.name)),
			el('p', {}, start)));
	}

	/** All is well again. */
	clear() {
		if (this.shown === null)
			return;
		this.shown = null;
		this.mark(false);
		fill(this.node);
	}

	/** What is below is old. */
	mark(stale) {
		this.node.parentElement?.classList.toggle('sn-stale', stale);
	}

	start() {
		return fs.exec(this.script, ['start']).then((result) => {
			if (result.code)
				throw new Error(result.stderr || _('exit status %s').format(String(result.code)));
			this.again?.();
		}).catch((error) => ui.addNotification(null, el('p', {}, _('%s could not be started: %s').format(this.name, error.message)), 'error'));
	}
}

return baseclass.extend({
	/** Makes of what `rpc.declare` gives a call that answers with the result or fails with a CallFailure. */
	calls: (declared) => (...args) => declared(...args).then(check, refuse),

	/** The banner of a daemon; `script` is its init script. */
	banner: (name, script) => new Banner(name, script),

	/**
	 * Does `work` every `interval` seconds; after failures more and more seldom. The banner, where one is given, shows
	 * them and is cleared by success. Nothing is asked while nobody looks.
	 */
	watch: (interval, work, banner) => {
		let due = 0;
		let failures = 0;
		const tick = () => {
			if (document.hidden || Date.now() < due)
				return Promise.resolve();
			return Promise.resolve().then(work).then(() => {
				failures = 0;
				due = Date.now() + interval * 1000 - 300;
				banner?.clear();
			}, (error) => {
				failures += 1;
				due = Date.now() + Math.min(LONGEST_PAUSE, interval * 2 ** failures) * 1000;
				banner?.show(error);
			});
		};
		const now = () => {
			due = 0;
			return tick();
		};
		if (banner) {
			const others = banner.again;
			banner.again = () => {
				others?.();
				window.setTimeout(now, 1000);
			};
		}
		poll.add(tick, 1);
		return { now };
	},

	/** Nobody may change anything here. */
	isReadonly: () => !L.hasViewPermission(),

	/** Says what became of something the operator asked for. */
	tell: (message, kind) => ui.addNotification(null, el('p', {}, message), kind ?? 'info'),

	/** The same where it must not be overlooked: in a dialog. */
	say: (title, ...lines) => ui.showModal(title, [
		...lines.map((line) => el('p', {}, line)),
		el('div', { 'class': 'right' }, page.button(_('Close'), () => ui.hideModal(), 'neutral')),
	]),

	/** What is wrong with the configuration, as a list; nothing when it is in order. */
	problems: (configuration) => {
		const problems = configuration?.problems ?? [];
		if (!problems.length && configuration?.state !== 'kept' && configuration?.state !== 'unconfigured')
			return null;
		const heading = {
			kept: _('The configuration has errors; the last good one stays in force.'),
			unconfigured: _('There is no configuration that can be read.'),
		}[configuration.state] ?? _('The configuration has remarks.');
		return el('div', { 'class': 'alert-message sn-problems' }, el('p', {}, el('strong', {}, heading)),
			el('ul', {}, problems.map(({ section, option, value, reason }) => el('li', {},
				el('code', {}, [section, option].filter(Boolean).join('.')),
				value ? ` “${value}” ` : ' ', reason))));
	},
});
