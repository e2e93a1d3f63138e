// SPDX-License-Identifier: Apache-2.0
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** All files below a directory whose path ends so and contains all of the parts. */
export const files = (root, ending, ...parts) => (existsSync(root) ? readdirSync(root, { recursive: true }) : [])
	.map((name) => join(root, name)).filter((file) => file.endsWith(ending) && parts.every((part) => file.includes(part))).sort();
