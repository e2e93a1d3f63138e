// SPDX-License-Identifier: Apache-2.0
// Every page of the menu, light and dark, narrow and wide: no error, nothing that axe-core finds, no text over another.
// With SHOTS=DIRECTORY each is kept as a picture.

import { join } from 'node:path';
import { SHOTS, axe, check, faults, open, run, visit } from './lab.js';

/** The least there must be, so that a menu gone wrong does not pass for nothing to see. */
const EXPECTED = [
	'services/powquty/overview', 'services/powquty/events', 'services/powquty/report', 'services/powquty/settings',
	'services/dynapoint/overview', 'services/dynapoint/settings', 'services/dynapoint/wireless',
	'services/mptcp-proxy/overview', 'services/mptcp-proxy/settings', 'status/overview',
];

/** Texts on top of each other, texts that leave their picture or box, a page that scrolls sideways. */
const overlaps = () => {
	const found = [];
	const visible = (box) => box.width > 1 && box.height > 1;
	for (const svg of document.querySelectorAll('svg')) {
		const frame = svg.getBoundingClientRect();
		const texts = [...svg.querySelectorAll('text')].filter((text) => text.textContent.trim()).map((text) => [text.textContent, text.getBoundingClientRect()]).filter(([, box]) => visible(box));
		texts.forEach(([name, box], index) => {
			if (box.left < frame.left - 1 || box.right > frame.right + 1)
				found.push(`"${name}" leaves ${svg.getAttribute('aria-label')}`);
			for (const [other, its] of texts.slice(index + 1)) {
				const apart = box.right <= its.left + 1 || its.right <= box.left + 1 || box.bottom - 3 <= its.top || its.bottom - 3 <= box.top;
				if (!apart)
					found.push(`"${name}" overlaps "${other}" in ${svg.getAttribute('aria-label')}`);
			}
		});
	}
	// Of text outside pictures: the boxes of the lines themselves.
	const lines = [];
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node = walker.nextNode(); node; node = walker.nextNode()) {
		const parent = node.parentElement;
		if (!node.textContent.trim() || parent.closest('svg, script, noscript, option, .sr, dialog, [hidden]') || !parent.checkVisibility({ visibilityProperty: true }))
			continue;
		const range = document.createRange();
		range.selectNodeContents(node);
		for (const box of range.getClientRects())
			if (visible(box))
				lines.push([node.textContent.trim().slice(0, 40), box]);
	}
	lines.sort(([, a], [, b]) => a.top - b.top);
	lines.forEach(([name, box], index) => {
		for (const [other, its] of lines.slice(index + 1)) {
			if (its.top > box.bottom)
				break;
			const across = Math.min(box.right, its.right) - Math.max(box.left, its.left);
			const down = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
			if (across > 2 && down > Math.min(box.height, its.height) / 2)
				found.push(`"${name}" lies over "${other}"`);
		}
	});
	if (document.documentElement.scrollWidth > window.innerWidth)
		found.push(`the page scrolls sideways (${document.documentElement.scrollWidth} px)`);
	return found;
};

/** The pages that the menu offers. */
const offered = (tab) => tab.evaluate(() => {
	const leaves = (entries) => entries.flatMap(({ path, children }) => (children.length ? leaves(children) : [path]));
	return leaves(window.preview.env.menu).map((path) => path.replace('admin/', ''));
});

const look = async (tab, path, scheme) => {
	await visit(tab, path);
	// One round of polls, so that what comes later is there too.
	await tab.waitForTimeout(1200);
	for (const width of [1280, 360]) {
		const where = `${path}, ${scheme}, ${width} px`;
		await tab.setViewportSize({ width, height: 900 });
		await tab.waitForTimeout(100);
		for (const fault of await tab.evaluate(overlaps))
			faults.push(`${where}: ${fault}`);
		if (SHOTS)
			await tab.screenshot({ path: join(SHOTS, `${path.replaceAll('/', '-')}-${scheme}-${width}.png`), fullPage: true });
		await tab.evaluate(axe);
		const { violations } = await tab.evaluate(() => window.axe.run(document, { runOnly: ['color-contrast', 'label', 'button-name', 'link-name', 'aria-valid-attr', 'aria-valid-attr-value', 'aria-roles', 'duplicate-id-aria', 'select-name', 'svg-img-alt', 'image-alt'] }));
		for (const { id, help, nodes } of violations)
			faults.push(`${where}: ${id}: ${help}: ${nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ''}`).join(' | ')}`);
	}
	await tab.setViewportSize({ width: 1280, height: 900 });
};

const sweep = (scheme) => async (browser) => {
	const tab = await open(browser, { scheme });
	await visit(tab, 'status/overview');
	const pages = await offered(tab);
	for (const path of EXPECTED)
		check(pages.includes(path), `${path} is not in the menu`);
	for (const path of pages)
		await look(tab, path, scheme).catch((error) => faults.push(`${path}: ${error.message}`));
	await tab.context().close();
};

// Both at once: most of the time goes by waiting.
await run({ 'light and dark': (browser) => Promise.all(['light', 'dark'].map((scheme) => sweep(scheme)(browser))) });
