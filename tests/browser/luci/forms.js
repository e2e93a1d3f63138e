// SPDX-License-Identifier: Apache-2.0
// Settings: what is saved lands in /etc/config and in the daemon, what is wrong is refused, who may not write cannot.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CONFIG_DIR, ask, check, committed, login, message, open, run, until, visit } from './lab.js';

const field = (tab, option) => tab.locator(`[data-name="${option}"]`);
const tabOf = (tab, name) => tab.getByRole('tab', { name, exact: true }).first();
const apply = (tab) => tab.getByRole('button', { name: 'Save & Apply' }).click();

const saving = async (browser) => {
	const tab = await open(browser);
	await visit(tab, 'services/powquty/settings');
	await tabOf(tab, 'Grid and limits').click();
	await field(tab, 'dip_threshold').locator('input').fill('85');
	await apply(tab);
	await until('85 in /etc/config/powquty', () => committed('powquty').includes("option dip_threshold '85'"));
	await until('85 in the daemon', async () => (await ask('powquty', 'status')).nominal.dip_threshold === 85);
	await visit(tab, 'services/powquty/settings');
	await tabOf(tab, 'Grid and limits').click();
	check(await field(tab, 'dip_threshold').locator('input').inputValue() === '85', 'the form does not show what was saved');
	// Emptied, the option goes and the default holds.
	await field(tab, 'dip_threshold').locator('input').fill('');
	await apply(tab);
	await until('90 in the daemon', async () => (await ask('powquty', 'status')).nominal.dip_threshold === 90);
	check(!committed('powquty').includes('dip_threshold'), 'an emptied option stays in the file');
	await tab.context().close();
};

const mistakes = async (browser) => {
	const tab = await open(browser);
	await visit(tab, 'services/powquty/settings');
	await tabOf(tab, 'Grid and limits').click();
	const before = committed('powquty');
	for (const wrong of ['900', 'much']) {
		await field(tab, 'dip_threshold').locator('input').fill(wrong);
		await field(tab, 'dip_threshold').locator('input').blur();
		const said = await until('a complaint at the field', () => field(tab, 'dip_threshold').getByRole('alert').textContent());
		check(said.length > 10, `the complaint is "${said}"`);
		await apply(tab);
		await tab.getByRole('button', { name: 'Dismiss' }).click();
	}
	check(committed('powquty') === before, 'a wrong value reached the file');
	const { changes } = await ask('uci', 'changes');
	check(Object.keys(changes).length === 0, `a wrong value is among the changes: ${JSON.stringify(changes)}`);
	await tab.context().close();
};

const rules = async (browser) => {
	const tab = await open(browser);
	await visit(tab, 'services/dynapoint/settings');
	await tab.locator('#cbi-dynapoint-rule').getByPlaceholder('Name').fill('third');
	await tab.locator('#cbi-dynapoint-rule').getByRole('button', { name: 'Add' }).click();
	const dialog = tab.getByRole('dialog');
	await dialog.locator('[data-name="hosts"] input[type="text"]').fill('http://127.0.0.1:9/third');
	await dialog.getByRole('button', { name: 'Add item' }).click();
	await tabOf(dialog, 'Times').click();
	await dialog.locator('[data-name="interval"] input').fill('7s');
	await dialog.getByRole('button', { name: 'Save' }).click();
	await tab.locator('[data-sid="third"]').waitFor();
	await apply(tab);
	await until('the rule in the file', () => {
		const [, rule] = committed('dynapoint').split("config rule 'third'\n");
		return rule?.split('\n\n')[0].includes("\tlist hosts 'http://127.0.0.1:9/third'\n\toption interval '7s'");
	});
	await until('the rule in the daemon', async () => (await ask('dynapoint', 'status')).rules.some(({ name }) => name === 'third'));
	// To an access point, where one condition stays an option.
	await visit(tab, 'services/dynapoint/wireless');
	const row = tab.locator('tr', { hasText: 'maintenance' });
	await row.getByRole('button', { name: 'Edit' }).click();
	await dialog.locator('[data-name="dynapoint_rule"]').getByRole('button', { name: /^Remove/ }).first().click();
	await dialog.locator('[data-name="dynapoint_rule"] input[type="text"]').fill('!third');
	await dialog.getByRole('button', { name: 'Save' }).click();
	await dialog.waitFor({ state: 'detached' });
	await apply(tab);
	await until('the condition in the file', () => /option dynapoint_rule '!third'/.test(committed('wireless')));
	await visit(tab, 'services/dynapoint/settings');
	await tab.locator('[data-sid="third"]').getByRole('button', { name: 'Delete' }).click();
	await tab.locator('[data-sid="third"]').waitFor({ state: 'detached' });
	await apply(tab);
	await until('the rule gone from the file', () => !committed('dynapoint').includes('third'));
	await tab.context().close();
};

/** What nobody confirms is taken back, in the file and in the daemon. */
const rollback = async () => {
	await ask('uci', 'set', { config: 'powquty', section: 'powquty', values: { swell_threshold: '120' } });
	const before = committed('powquty');
	await ask('uci', 'apply', { rollback: true, timeout: 2 });
	check(committed('powquty').includes("option swell_threshold '120'"), 'apply does not commit');
	await until('the old file', () => committed('powquty') === before);
	await until('the old threshold', async () => (await ask('powquty', 'status')).nominal.swell_threshold === 110);
};

const readers = async (browser) => {
	const tab = await open(browser, { user: 'guest' });
	const before = [committed('powquty'), committed('dynapoint')];
	for (const page of ['powquty/settings', 'dynapoint/settings', 'dynapoint/wireless', 'mptcp-proxy/settings']) {
		await visit(tab, `services/${page}`);
		const open = await tab.locator('#view .cbi-map :is(input, select, textarea):enabled').count();
		check(open === 0, `${page}: ${open} fields can be changed by a reader`);
		check(await tab.locator('.cbi-page-actions button:enabled').count() === 0, `${page}: a reader can press save`);
	}
	for (const page of ['powquty/report', 'dynapoint/overview']) {
		await visit(tab, `services/${page}`);
		const buttons = await tab.locator('#view').getByRole('button', { name: /^(Send now|Check now|Force)/ }).evaluateAll((all) => all.filter((button) => !button.disabled && button.checkVisibility()).map((button) => button.textContent));
		check(buttons.length === 0, `${page}: a reader can press ${buttons}`);
	}
	// Nor by hand.
	const session = await login('guest');
	for (const [object, method, args] of [
		['uci', 'set', { config: 'powquty', section: 'powquty', values: { dip_threshold: '50' } }],
		['uci', 'apply', { rollback: false }],
		['powquty', 'alert_test', { sink: 'slack' }],
		['dynapoint', 'force', { rule: 'internet', state: 'offline' }],
		['file', 'exec', { command: '/etc/init.d/powqutyd', params: ['start'] }],
		['rc', 'init', { name: 'powqutyd', action: 'stop' }],
	]) {
		const { error } = await message(session, object, method, args);
		check(error?.code === -32002, `a reader may call ${object}.${method}`);
	}
	const admin = await login('admin');
	for (const [object, method, args] of [
		['file', 'exec', { command: '/bin/sh', params: ['-c', 'id'] }],
		['file', 'read', { path: '/etc/passwd' }],
		['uci', 'get', { config: 'rpcd' }],
	]) {
		const { result, error } = await message(admin, object, method, args);
		check(error || result[0] === 6, `the admin's pages may ${object}.${method} ${JSON.stringify(args)}`);
	}
	check(committed('powquty') === before[0] && committed('dynapoint') === before[1], 'a reader has changed a file');
	await tab.context().close();
};

/** Names of networks, hosts and values from outside are text on every page, and so are the complaints about them. */
const hostile = async (browser) => {
	const payload = '<img src=x onerror=window.pwned=1>';
	const saved = ['powquty', 'dynapoint', 'wireless'].map((config) => [config, committed(config)]);
	// As pages do, and so that the daemons are told.
	const put = (config, section, option) => ask('uci', 'set', { config, section, values: { [option]: payload } });
	const reload = () => ask('uci', 'apply', { rollback: false });
	const tab = await open(browser);
	const look = async (...pages) => {
		for (const page of pages) {
			await visit(tab, `services/${page}`);
			const seen = () => tab.evaluate((text) => {
				const view = document.getElementById('view');
				return view.innerText.includes(text) || [...view.querySelectorAll('input')].some((input) => input.value.includes(text));
			}, payload);
			await until(`${payload} on ${page}`, seen).catch((error) => check(false, error.message));
			check(await tab.evaluate(() => window.pwned === undefined && !document.querySelector('img[src=x]')), `${page}: a text became an element`);
		}
	};
	try {
		await put('powquty', 'powquty', 'dev_uuid');
		await put('wireless', 'freifunk', 'ssid');
		await reload();
		await look('powquty/overview', 'dynapoint/overview', 'dynapoint/wireless');
		await put('powquty', 'powquty', 'network_type');
		await put('dynapoint', 'backup_gateway', 'family');
		await reload();
		await look('powquty/settings', 'dynapoint/settings');
	} finally {
		for (const [config, text] of saved)
			writeFileSync(join(CONFIG_DIR, config), text);
	}
	await tab.context().close();
};

await run({ saving, mistakes, rules, rollback, readers, hostile });
