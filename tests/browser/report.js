// SPDX-License-Identifier: Apache-2.0
// Looks at a page of `powqutyd report --html` as a reader would: node report.js PAGE.html DIRECTORY
// Light and dark, narrow and wide, printed; fails with a line per fault. Screenshots go to DIRECTORY.

import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const [page, directory] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const faults = [];

// Texts that a reader would see on top of each other, and texts that leave their picture.
function overlaps() {
	const found = [];
	for (const svg of document.querySelectorAll('svg[role=img]')) {
		const frame = svg.getBoundingClientRect();
		const texts = [...svg.querySelectorAll('text')].map((text) => [text.textContent, text.getBoundingClientRect()]);
		texts.forEach(([name, box], index) => {
			if (box.left < frame.left - 1 || box.right > frame.right + 1) found.push(`"${name}" leaves ${svg.getAttribute('aria-label')}`);
			for (const [other, its] of texts.slice(index + 1)) {
				const apart = box.right <= its.left || its.right <= box.left || box.bottom - 3 <= its.top || its.bottom - 3 <= box.top;
				if (!apart) found.push(`"${name}" overlaps "${other}" in ${svg.getAttribute('aria-label')}`);
			}
		});
	}
	for (const cell of document.querySelectorAll('td, th, .tile *, h1, h2, p')) {
		if (cell.scrollWidth > cell.clientWidth + 1 && cell.clientWidth > 0 && getComputedStyle(cell).display !== 'inline') {
			found.push(`"${cell.textContent.slice(0, 40)}" is wider than its box`);
		}
	}
	if (document.documentElement.scrollWidth > window.innerWidth) found.push('the page scrolls sideways');
	return found;
}

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
try {
	for (const colorScheme of ['light', 'dark']) {
		for (const width of [360, 1280]) {
			const where = `${colorScheme}, ${width} px`;
			const context = await browser.newContext({ colorScheme, viewport: { width, height: 900 }, offline: true });
			const tab = await context.newPage();
			tab.on('console', (message) => message.type() === 'error' && faults.push(`${where}: ${message.text()}`));
			tab.on('pageerror', (error) => faults.push(`${where}: ${error.message}`));
			tab.on('requestfailed', (request) => faults.push(`${where}: asks for ${request.url()}`));
			await tab.goto(pathToFileURL(resolve(page)).href);
			await tab.screenshot({ path: join(directory, `${colorScheme}-${width}.png`), fullPage: true });
			for (const fault of await tab.evaluate(overlaps)) faults.push(`${where}: ${fault}`);
			await tab.evaluate(axe);
			const { violations } = await tab.evaluate(() => window.axe.run());
			for (const { id, help, nodes } of violations) {
				faults.push(`${where}: ${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 120)).join(' | ')}`);
			}
			await context.close();
		}
	}
	// A4 less its margins, at 96 dots per inch.
	const tab = await browser.newPage({ viewport: { width: 710, height: 1040 } });
	await tab.emulateMedia({ media: 'print' });
	await tab.goto(pathToFileURL(resolve(page)).href);
	await tab.screenshot({ path: join(directory, 'print.png'), fullPage: true });
	for (const fault of await tab.evaluate(overlaps)) faults.push(`printed: ${fault}`);
	await tab.emulateMedia({ media: null });
	const pdf = await tab.pdf({ preferCSSPageSize: true, printBackground: false });
	writeFileSync(join(directory, 'report.pdf'), pdf);
	const sheets = pdf.toString('latin1').match(/\/Type\s*\/Page\b/g).length;
	if (sheets > 4) faults.push(`printed on ${sheets} sheets`);
	console.log(`${page}: ${sheets} sheets, ${faults.length} faults`);
} finally {
	await browser.close();
}
for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
