// SPDX-License-Identifier: Apache-2.0
// Run from the root of the tree: eslint --config tests/browser/eslint.config.js luci-apps tests/browser
import js from '@eslint/js';
import { readFileSync } from 'node:fs';
import { files } from './files.js';

const names = (...list) => Object.fromEntries(list.map((name) => [name, 'readonly']));

const browser = names(
	'AbortController', 'Blob', 'CustomEvent', 'Event', 'Intl', 'MutationObserver', 'Node', 'NodeFilter', 'Option', 'ResizeObserver', 'URL', 'atob', 'btoa', 'clearInterval',
	'clearTimeout', 'console', 'crypto', 'document', 'fetch', 'getComputedStyle', 'localStorage', 'location', 'navigator', 'requestAnimationFrame', 'setInterval',
	'setTimeout', 'window', 'Element', 'HTMLElement', 'DOMParser', 'XMLSerializer', 'TextEncoder', 'TextDecoder', 'performance',
);

/** What LuCI puts around the pages it loads. */
const luci = names('L', 'E', '_', 'N_');

const rules = {
	...js.configs.recommended.rules,
	'no-unused-vars': ['error', { args: 'after-used', argsIgnorePattern: '^_' }],
	'no-undef': 'error', 'prefer-const': 'error', 'no-var': 'error', eqeqeq: 'error', 'no-eval': 'error', strict: ['error', 'safe'],
};

/** Of pages: text stays text, and LuCI's jsmin takes a regular expression behind `=>` apart. */
const page = {
	...rules,
	strict: 'off',
	'no-restricted-properties': ['error', ...[{ property: 'innerHTML' }, { property: 'outerHTML' }, { property: 'insertAdjacentHTML' }, { object: 'document', property: 'write' }].map((what) => ({ ...what, message: 'text may become markup: use page.el and page.fill' }))],
	'no-restricted-syntax': ['error',
		{ selector: 'ArrowFunctionExpression > Literal[regex]', message: 'jsmin corrupts this: put the body in braces' },
		{ selector: 'TemplateLiteral TemplateLiteral', message: 'jsmin takes blanks out of the inner one: make it a value of its own' },
		// LuCI parses a bare string for children as HTML.
		{ selector: 'CallExpression[callee.name="E"] > :matches(Literal, TemplateLiteral):nth-child(3)', message: 'children in a list are text, a string is markup: use page.el' }],
};

/** The names that a page's own directives bring. */
const required = (file) => names(...[...readFileSync(file, 'utf8').matchAll(/^'require (\S+?)(?: as (\S+))?';/gm)].map(([, name, as]) => as ?? name.replaceAll(/[^a-zA-Z0-9_]/g, '_')));

const pages = [...files('luci-apps', '.js', '/htdocs/'), ...files('luci-apps/preview/web/resources', '.js')];

export default [
	{ ignores: ['**/node_modules/**', 'target/**'] },
	...pages.map((file) => ({
		files: [file],
		languageOptions: { sourceType: 'script', ecmaVersion: 2022, parserOptions: { ecmaFeatures: { globalReturn: true } }, globals: { ...browser, ...luci, ...required(file) } },
		rules: file.includes('/preview/') ? { ...rules, strict: 'off' } : page,
	})),
	{ files: ['luci-apps/preview/web/preview/*.js'], languageOptions: { sourceType: 'script', ecmaVersion: 2022, globals: { ...browser, L: 'writable' } }, rules: { ...rules, strict: 'off' } },
	{ files: ['tests/browser/**/*.js'], languageOptions: { sourceType: 'module', ecmaVersion: 2024, globals: { ...browser, ...names('process', 'Buffer') } }, rules },
];
