// SPDX-License-Identifier: Apache-2.0
// Every option a daemon knows is on its settings page, and every option there is known to the daemon. Neither side can
// lie: the pages are asked through the forms they have drawn, the daemons through `check`, which warns of an unknown option.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { files } from '../files.js';
import { POWQUTYD, check, open, run, visit } from './lab.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');

/** Daemon, package, page, and values that decide which other options are read. */
const DAEMONS = [
	{ daemon: 'powqutyd', config: 'powquty', page: 'powquty/settings', cases: ['wesense', 'file', 'stdin', 'simulator', 'command'].map((input) => ({ input })) },
	{ daemon: 'dynapoint', config: 'dynapoint', page: 'dynapoint/settings', cases: ['http', 'dns', 'tcp', 'batman', 'script'].map((type) => ({ type, rule: 'other' })), beside: "config rule 'other'\n" },
	{ daemon: 'mptcp-proxy', config: 'mptcp-proxy', page: 'mptcp-proxy/settings', cases: ['tproxy', 'socks'].map((mode) => ({ mode })) },
];

/** Options that have no field, and why. */
const EXCEPTIONS = {
	'powquty.meta_typ': 'a misspelling of PowQuty, renamed on upgrade',
	'powquty.meta_pahse': 'a misspelling of PowQuty, renamed on upgrade',
	'globals.mqtt_notification': 'measurements over MQTT, of which only the power monitor has any',
};

/** The options of each section type of a page, from the forms themselves; `_test_slack` and the like are no options. */
const drawn = (tab) => tab.evaluate(() => {
	const found = {};
	for (const node of document.querySelectorAll('#view .cbi-map'))
		for (const section of window.L.dom.findClassInstance(node).children)
			found[section.sectiontype] = [...(found[section.sectiontype] ?? []), ...section.children.map(({ option }) => option).filter((name) => !name.startsWith('_'))];
	return found;
});

/** Every word in the sources that could be an option. */
const words = (daemon) => {
	const found = new Set();
	for (const file of [...files(join(root, daemon, 'src'), '.rs'), ...files(join(root, 'alerts/src'), '.rs')])
		for (const [, word] of readFileSync(file, 'utf8').matchAll(/"([a-z][a-z0-9_]{1,40})"/g))
			found.add(word);
	// Put together there from the name of the sink.
	for (const sink of ['slack', 'mqtt', 'email', 'exec'])
		for (const word of ['notify', 'min_severity', 'kinds'])
			found.add(`${sink}_${word}`);
	return [...found];
};

/** `check` names so many problems at most. */
const AT_ONCE = 40;

/** Those of the words that the daemon knows in a section of that type. */
const known = (program, config, kind, words, decisive, beside = '') => {
	if (words.length > AT_ONCE)
		return [...known(program, config, kind, words.slice(0, AT_ONCE), decisive, beside), ...known(program, config, kind, words.slice(AT_ONCE), decisive, beside)];
	const candidates = words;
	const dir = mkdtempSync(join(tmpdir(), 'options-'));
	try {
		mkdirSync(join(dir, 'config'));
		const options = candidates.filter((word) => !(word in decisive)).map((word) => `\toption ${word} '1'\n`);
		const chosen = Object.entries(decisive).map(([name, value]) => `\toption ${name} '${value}'\n`);
		const name = kind === 'globals' || kind === 'powquty' ? kind : 'probe';
		writeFileSync(join(dir, 'config', config), `${beside}config ${kind} '${name}'\n${options.join('')}${chosen.join('')}`);
		const { stdout, stderr } = spawnSync(program, ['--config-dir', join(dir, 'config'), '--state-dir', dir, '--run-dir', dir, 'check'], { encoding: 'utf8' });
		const unknown = new Set([...(stdout + stderr).matchAll(/\.([a-z0-9_]+): unknown option/g)].map(([, word]) => word));
		return candidates.filter((word) => !unknown.has(word));
	} finally {
		rmSync(dir, { recursive: true });
	}
};

const compare = async (browser) => {
	const tab = await open(browser);
	for (const { daemon, config, page, cases, beside } of DAEMONS) {
		await visit(tab, `services/${page}`);
		const fields = await drawn(tab);
		const program = join(dirname(POWQUTYD), daemon);
		let count = 0;
		for (const [kind, names] of Object.entries(fields)) {
			check(new Set(names).size === names.length, `${page}: an option of ${kind} twice`);
			const candidates = [...new Set([...words(daemon), ...names, 'no_such_option'])];
			const reads = new Set(cases.flatMap((decisive) => known(program, config, kind, candidates, decisive, beside)));
			check(!reads.has('no_such_option'), `${daemon} check does not warn of unknown options of ${kind}: nothing was proven`);
			for (const name of names)
				check(reads.has(name), `${page} has ${kind}.${name}, which ${daemon} does not know`);
			for (const name of reads)
				check(names.includes(name) || `${kind}.${name}` in EXCEPTIONS, `${daemon} knows ${kind}.${name}, which ${page} does not have`);
			count += reads.size;
		}
		console.log(`${daemon}: ${count} options of ${Object.keys(fields).join(', ')}`);
		check(count > 20, `${daemon}: only ${count} options were found`);
	}
	await tab.context().close();
};

await run({ options: compare });
