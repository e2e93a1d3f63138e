// SPDX-License-Identifier: Apache-2.0
// What can be told of the LuCI apps without running them; one line per fault. Run from the root of the tree.

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parse } from 'espree';
import { files } from '../files.js';

const ROOT = 'luci-apps';
const faults = [];
const fault = (file, text) => faults.push(`${file}: ${text}`);

/** JSON with every key once. */
const json = (file) => {
	const text = readFileSync(file, 'utf8');
	try {
		const duplicates = ({ type, properties }) => {
			if (type !== 'ObjectExpression')
				return;
			const seen = new Set();
			for (const { key, value } of properties) {
				if (seen.has(key.value))
					fault(file, `"${key.value}" twice`);
				seen.add(key.value);
				duplicates(value);
			}
		};
		duplicates(parse(`(${text})`, { ecmaVersion: 2022 }).body[0].expression);
		return JSON.parse(text);
	} catch (error) {
		fault(file, error.message);
		return {};
	}
};

const merged = (part) => Object.assign({}, ...files(ROOT, '.json', '/luci-app-', part).map(json));

/** Every node below, with its kind. */
const walk = (node, see) => {
	if (!node || typeof node !== 'object')
		return;
	if (node.type)
		see(node);
	for (const [name, child] of Object.entries(node))
		if (name !== 'parent')
			(Array.isArray(child) ? child : [child]).forEach((entry) => walk(entry, see));
};

const literals = (node) => {
	if (node?.type === 'Literal')
		return [node.value];
	return node?.type === 'ArrayExpression' ? node.elements.flatMap(literals) : [];
};

const property = (node, name) => node.properties.find(({ key }) => (key?.name ?? key?.value) === name)?.value;

/** What a file asks of the router, and which files it takes along. */
const needs = (file) => {
	const found = { ubus: [], uciRead: [], uciWrite: [], exec: [], files: [], requires: [] };
	const source = readFileSync(file, 'utf8');
	const tree = parse(source, { ecmaVersion: 2022, sourceType: 'script', ecmaFeatures: { globalReturn: true } });
	walk(tree, (node) => {
		if (node.type === 'ExpressionStatement' && node.directive?.startsWith('require '))
			found.requires.push(node.directive.split(' ')[1]);
		if (node.type === 'Literal' && typeof node.value === 'string' && node.value.startsWith('/etc/init.d/'))
			found.exec.push(node.value);
		const callee = node.callee;
		if (!['CallExpression', 'NewExpression'].includes(node.type) || callee.type !== 'MemberExpression')
			return;
		const name = `${callee.object.name}.${callee.property.name}`;
		const [first] = node.arguments;
		if (name === 'rpc.declare') {
			const [object, method] = ['object', 'method'].map((key) => property(first, key)?.value);
			if (object && method)
				found.ubus.push([object, method]);
			else
				fault(file, 'rpc.declare with an object or method that is no literal');
		}
		if (name === 'uci.load') {
			if (!literals(first).length)
				fault(file, 'uci.load of something that is no literal');
			found.uciRead.push(...literals(first));
		}
		if (name === 'form.Map') {
			found.uciRead.push(...literals(first));
			found.uciWrite.push(...literals(first));
		}
		if (name.startsWith('fs.') && literals(first).length)
			found.files.push([literals(first)[0], { exec: 'exec', stat: 'list', list: 'list', write: 'write' }[callee.property.name] ?? 'read']);
	});
	return found;
};

const matches = (pattern, text) => new RegExp(`^${pattern.replaceAll(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*').replaceAll('?', '.')}$`).test(text);

/** Whether the groups grant it; a list stands for the name of the part. */
const granted = (groups, scope, object, methods) => groups.some((group) => ['read', 'write'].some((part) => {
	const grants = group[part]?.[scope];
	if (Array.isArray(grants))
		return methods.includes(part) && grants.some((pattern) => matches(pattern, object));
	return Object.entries(grants ?? {}).some(([pattern, functions]) => matches(pattern, object) && [functions].flat().some((name) => methods.some((method) => matches(name, method))));
}));

const apps = readdirSync(ROOT).filter((name) => name.startsWith('luci-'));
const acl = merged('/rpcd/acl.d/');
const menu = merged('/luci/menu.d/');
/** What luci-base and our own library grant or bring everywhere. */
const BASE_UBUS = ['uci', 'session', 'network.interface', 'luci-rpc'];
const resource = (name) => apps.map((app) => join(ROOT, app, 'htdocs/luci-static/resources', `${name.replaceAll('.', '/')}.js`)).find(existsSync);

const verify = (file, wants, groups, names) => {
	const missing = (what) => fault(file, `${what} is granted by none of ${names.join(', ')}`);
	for (const [object, method] of wants.ubus)
		if (!BASE_UBUS.includes(object) && !granted(groups, 'ubus', object, [method]))
			missing(`ubus ${object}.${method}`);
	for (const config of wants.uciRead)
		if (!granted(groups, 'uci', config, ['read']))
			missing(`reading ${config}`);
	for (const config of wants.uciWrite)
		if (!granted(groups, 'uci', config, ['write']))
			missing(`writing ${config}`);
	for (const script of wants.exec)
		if (!granted(groups, 'file', script, ['exec']) && !granted(groups, 'file', `${script} start`, ['exec']))
			missing(`exec of ${script}`);
	for (const [path, method] of wants.files)
		if (!granted(groups, 'file', path, [method]))
			missing(`${method} of ${path}`);
};

const appOf = (file) => file.split('/')[1];
const groupsOf = (app) => Object.keys(acl).filter((name) => name === app || name.startsWith(`${app}-`));

for (const [path, entry] of Object.entries(menu)) {
	const parent = path.slice(0, path.lastIndexOf('/'));
	if (!(parent in menu) && !['admin/services', 'admin/status', 'admin/network', 'admin/system', 'admin/vpn'].includes(parent))
		fault(path, 'hangs below nothing');
	for (const group of entry.depends?.acl ?? [])
		if (!(group in acl))
			fault(path, `needs the ACL group ${group}, which there is not`);
	if (entry.action?.type === 'alias' && !(entry.action.path in menu))
		fault(path, `stands for ${entry.action.path}, which there is not`);
	if (entry.action?.type !== 'view')
		continue;
	const file = resource(`view/${entry.action.path}`);
	if (!file) {
		fault(path, `there is no view ${entry.action.path}`);
		continue;
	}
	const groups = entry.depends?.acl ?? [];
	if (!groups.length)
		fault(path, 'a page without an ACL group');
	verify(file, needs(file), groups.map((name) => acl[name] ?? {}), groups);
}

for (const file of files(ROOT, '.js', '/htdocs/')) {
	const wants = needs(file);
	for (const name of wants.requires)
		if (name.includes('.') && !name.startsWith('tools.') && !resource(name))
			fault(file, `requires ${name}, which there is not`);
	// Shared files are held to all groups of their app; a page that may not call is refused by rpcd and says so.
	const names = groupsOf(appOf(file));
	if (names.length)
		verify(file, wants, names.map((name) => acl[name]), names);
	if (file.includes('/resources/view/') && !file.includes('/status/include/')) {
		const view = file.split('/resources/view/')[1].replace('.js', '');
		if (!Object.values(menu).some(({ action }) => action?.path === view))
			fault(file, 'no menu entry leads here');
	}
}

for (const [name, group] of Object.entries(acl))
	if (!group.description)
		fault(name, 'an ACL group without a description');
for (const app of apps)
	if (basename(app).startsWith('luci-app-') && !groupsOf(app).length)
		fault(app, 'no ACL group of its own');

for (const line of [...new Set(faults)])
	console.error(line);
process.exitCode = faults.length > 0 ? 1 : 0;
