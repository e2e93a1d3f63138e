// SPDX-License-Identifier: Apache-2.0
// ISO 8601 weeks.
'use strict';
'require baseclass';

const DAY = 86400e3;

/** `2026-W47` of a local date: the week to which its Thursday belongs. */
const name = (date) => {
	const thursday = new Date(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()));
	thursday.setUTCDate(thursday.getUTCDate() + 3 - (thursday.getUTCDay() + 6) % 7);
	const first = Date.UTC(thursday.getUTCFullYear(), 0, 1);
	const week = Math.floor((thursday.getTime() - first) / (7 * DAY)) + 1;
	return `${thursday.getUTCFullYear()}-W${String(week).padStart(2, '0')}`;
};

return baseclass.extend({
	name,

	/** This week and the ones before it, newest first. */
	recent: (count) => [...Array(count).keys()].map((index) => name(new Date(Date.now() - index * 7 * DAY))),
});
