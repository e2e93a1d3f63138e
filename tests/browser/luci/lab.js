// SPDX-License-Identifier: Apache-2.0
// What the LuCI tests share: a browser that notes every fault, calls to /ubus, a grid on a pseudo-terminal.

import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

export const { BASE, CONFIG_DIR, DATA_DIR, POWQUTYD, SHOTS } = process.env;
export const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** The longest that anything may take on a busy machine, milliseconds. */
export const PATIENCE = 30000;

/** Each with a line of its own at the end. */
export const faults = [];

/** Notes a fault unless `fine`. */
export const check = (fine, fault) => {
	if (!fine)
		faults.push(fault);
	return fine;
};

/** Waits until `probe` gives something, or notes that it never did. */
export const until = async (what, probe) => {
	const end = Date.now() + PATIENCE;
	for (;;) {
		const found = await Promise.resolve().then(probe).catch((error) => (Date.now() > end ? Promise.reject(error) : null));
		if (found)
			return found;
		if (Date.now() > end)
			throw new Error(`never: ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
};

/** A tab in which console errors, exceptions and failed requests are faults. */
export const open = async (browser, { user = 'admin', scheme = 'light', width = 1280 } = {}) => {
	const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height: 900 }, baseURL: BASE, acceptDownloads: true });
	await context.addCookies([{ name: 'sysauth', value: await login(user), url: BASE }]);
	const tab = await context.newPage();
	const where = () => `${tab.url().replace(BASE, '').replace('/cgi-bin/luci/admin', '')} (${user}, ${scheme})`;
	tab.on('console', (message) => ['error', 'warning'].includes(message.type()) && faults.push(`${where()}: console: ${message.text()}`));
	tab.on('pageerror', (error) => faults.push(`${where()}: ${error.stack}`));
	// A page that is left while it asks cancels the question.
	tab.on('requestfailed', (request) => request.failure()?.errorText !== 'net::ERR_ABORTED' && faults.push(`${where()}: ${request.url()}: ${request.failure()?.errorText}`));
	tab.on('response', (response) => response.status() >= 400 && faults.push(`${where()}: ${response.url()}: HTTP ${response.status()}`));
	tab.on('request', (request) => {
		if (!request.url().startsWith(BASE) && !request.url().startsWith('blob:') && !request.url().startsWith('data:'))
			faults.push(`${where()}: asks for ${request.url()}`);
	});
	tab.setDefaultTimeout(PATIENCE);
	return tab;
};

/** Opens a page and waits until it is drawn. */
export const visit = async (tab, path) => {
	await tab.goto(`/cgi-bin/luci/admin/${path}`);
	await tab.waitForSelector('body[data-ready]');
};

let number = 1;

/** The whole answer to a call. */
export const message = async (session, object, method, args = {}) => {
	const body = JSON.stringify({ jsonrpc: '2.0', id: number++, method: 'call', params: [session, object, method, args] });
	const response = await fetch(`${BASE}/ubus`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
	return response.json();
};

/** What a call gives, as `admin`. */
export const ask = async (object, method, args) => {
	ask.session ??= await login('admin');
	const { result, error } = await message(ask.session, object, method, args);
	if (error || result[0] !== 0)
		throw new Error(`${object}.${method}: ${JSON.stringify(error ?? result)}`);
	return result[1];
};

export const login = async (user) => {
	const { result } = await message('0'.repeat(32), 'session', 'login', { username: user, password: user });
	return result[1].ubus_rpc_session;
};

/** The committed configuration of a package. */
export const committed = (config) => readFileSync(join(CONFIG_DIR, config), 'utf8');

/** An emulated oscilloscope; `power` changes what is on the grid, as if it were plugged in anew. */
export class Grid {
	async power(...lines) {
		await this.off();
		const script = join(DATA_DIR, 'grid.txt');
		writeFileSync(script, lines.join('\n') + '\n');
		this.device = spawn(POWQUTYD, ['emulate', '--pty', join(DATA_DIR, 'oscilloscope'), '--script', script], { stdio: 'ignore' });
	}

	async off() {
		const device = this.device;
		this.device = null;
		if (!device || device.exitCode !== null)
			return;
		const gone = new Promise((resolve) => { device.once('exit', resolve); });
		device.kill();
		await gone;
	}
}

/** Runs named steps in one browser; every fault is printed, and there may be none. */
export const run = async (steps, cleanUp) => {
	const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
	try {
		for (const [name, step] of Object.entries(steps)) {
			const begin = Date.now();
			await step(browser).catch((error) => faults.push(`${name}: ${error.stack}`));
			console.log(`${name}: ${((Date.now() - begin) / 1000).toFixed(1)} s`);
		}
	} finally {
		await browser.close();
		await cleanUp?.();
	}
	for (const fault of faults)
		console.error(fault);
	process.exitCode = faults.length > 0 ? 1 : 0;
};
