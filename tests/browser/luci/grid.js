// SPDX-License-Identifier: Apache-2.0
// What happens on an emulated grid shows on the pages: values, a dip with its waveform, a daemon that is away.

import { Grid, ask, check, open, run, until, visit } from './lab.js';

const grid = new Grid();

const voltage = async (tab) => {
	const text = await tab.locator('#view').innerText();
	return Number(/(\d+(?:\.\d+)?)\s*V\b/.exec(text)?.[1]);
};

const near = (tab, volts) => until(`${volts} V on the overview`, async () => Math.abs(await voltage(tab) - volts) < 1);

const values = async (browser) => {
	const tab = await open(browser);
	await grid.power('voltage 231', 'frequency 50.02');
	await visit(tab, 'services/powquty/overview');
	await near(tab, 231);
	await grid.power('voltage 218', 'frequency 49.95');
	await near(tab, 218);
	await until('49.95 Hz on the overview', async () => /49\.9[45]\d*\s*Hz/.test(await tab.locator('#view').innerText()));
	check(await tab.locator('#view svg').count() >= 4, 'no pictures on the overview');
	await tab.context().close();
};

/** Milliseconds from the end of a dip, by the daemon's clock, until it is in the table; the quickest of a few. */
const dips = async (browser) => {
	const tab = await open(browser);
	await visit(tab, 'services/powquty/events');
	const before = (await ask('powquty', 'events', { limit: 1 })).total;
	await grid.power('voltage 230', 'repeat 4s', 'at 3s dip 40 for 120ms');
	const delays = [];
	for (let seen = 0; seen < 3; seen++) {
		const row = tab.locator('[data-kind="dip"]');
		const count = await until('another dip in the table', async () => (await row.count()) > seen && row.count());
		const now = Date.now();
		const id = await row.first().getAttribute('data-event');
		const { events } = await ask('powquty', 'events', { limit: 50 });
		const event = events.find((candidate) => candidate.id === id);
		check(Math.abs(event.extreme_percent - 40) < 1, `the dip is ${event.extreme_percent} %`);
		delays.push(now - Date.parse(event.end));
		seen = count - 1;
	}
	console.log(`dips in the table after ${delays.join(', ')} ms (there were ${before} before)`);
	check(Math.min(...delays) <= 2000, `no dip was in the table within 2 s: ${delays.join(', ')} ms`);
	const text = await tab.locator('[data-kind="dip"]').first().innerText();
	check(/40/.test(text), `the row does not tell the residual voltage: ${text}`);
	await tab.locator('[data-kind="dip"] button').last().click();
	await until('the waveform of the dip', async () => (await tab.locator('.sn-card:not([hidden]) svg').count()) > 0);
	const drawn = await tab.locator('.sn-card:not([hidden]) svg').evaluateAll((pictures) => pictures.some((picture) => [...picture.querySelectorAll('polyline, path')].some((line) => (line.getAttribute('points') ?? line.getAttribute('d') ?? '').length > 400)));
	check(drawn, 'the waveform has no points');
	for (const [button, ending] of [['COMTRADE', '.cff'], ['CSV', '.csv']]) {
		const waiting = tab.waitForEvent('download');
		await tab.locator('.sn-card:not([hidden])').getByRole('button', { name: button, exact: true }).click();
		const file = await waiting;
		check(file.suggestedFilename().endsWith(ending), `${button} gives ${file.suggestedFilename()}`);
	}
	await tab.context().close();
};

/** Stopped, the pages say so and offer a start; started, they go on by themselves. */
const absence = async (browser) => {
	const tab = await open(browser);
	await visit(tab, 'services/powquty/overview');
	await ask('rc', 'init', { name: 'powqutyd', action: 'stop' });
	const start = tab.getByRole('button', { name: /^Start powqutyd/ });
	await start.waitFor();
	await start.click();
	await start.waitFor({ state: 'detached' });
	await near(tab, 230);
	await tab.context().close();
};

const overviewBox = async (browser) => {
	const tab = await open(browser);
	await visit(tab, 'status/overview');
	await near(tab, 230);
	await tab.context().close();
};

await run({ values, dips, absence, 'overview box': overviewBox }, () => grid.off());
