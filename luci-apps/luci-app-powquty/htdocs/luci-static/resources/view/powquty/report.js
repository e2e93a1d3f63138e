// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require rpc';
'require powquty.common as powquty';
'require powquty.week as weeks';
'require steadynode.page as page';
'require steadynode.daemon as daemon';

const { el, fill, number } = page;

const send = daemon.calls(rpc.declare({ object: 'powquty', method: 'report_send', params: ['sink', 'week'] }));

/** Weeks that can be chosen; the record file holds at least five. */
const WEEKS = 8;

/** The whole page of a week; the bus carries it in parts. */
const fetchPage = async (week) => {
	const parts = [];
	for (let count = 1; parts.length < count;) {
		const answer = await powquty.calls.reportHtml(week, parts.length);
		count = answer.parts;
		parts.push(answer.html);
	}
	return parts.join('');
};

return view.extend({
	handleSaveApply: null,
	handleSave: null,
	handleReset: null,

	render: () => {
		const banner = powquty.banner();
		// Without scripts, and without access to this page: what the report holds stays a picture.
		const paper = el('iframe', { 'class': 'sn-report', sandbox: '', title: _('Weekly report'), hidden: '' });
		const verdict = el('div', {});
		const names = weeks.recent(WEEKS);
		let week = names[0];
		let html = null;
		let shown = null;

		const sentence = (report) => el('p', { 'data-verdict': report.light },
			powquty.light(report.light), ` – ${_('week %s, %s to %s').format(report.week, page.day(report.start), page.day(new Date(Date.parse(report.end) - 1000).toISOString()))}`,
			report.complete ? '' : `, ${_('not over yet')}`, '. ',
			_('%s events, %s %% of the week measured').format(number(report.events?.total, 0),
				number(100 * ((report.completeness?.valid ?? 0) + (report.completeness?.flagged ?? 0)) / Math.max(1, report.completeness?.expected ?? 1), 1)), '.');

		const load = () => powquty.calls.report(week).then(async (report) => {
			// A week that is over does not change, and a running one not quickly.
			const stand = `${report.week} ${report.completeness?.valid} ${report.events?.total}`;
			fill(verdict, sentence(report));
			if (stand === shown)
				return;
			html = await fetchPage(week);
			shown = stand;
			paper.srcdoc = html;
			paper.hidden = false;
			save.disabled = false;
		}).catch((error) => {
			// No records of that week is an answer, not a fault.
			if (error.kind !== 'failed')
				throw error;
			html = shown = null;
			save.disabled = true;
			paper.hidden = true;
			fill(verdict, el('p', {}, el('em', {}, error.message)));
		});
		const watch = daemon.watch(60, load, banner);

		const choose = page.choice(_('Week'), names.map((name, index) => [name, index === 0 ? _('%s (this week)').format(name) : name]), week, (value) => {
			week = value;
			shown = null;
			return watch.now();
		});
		const save = page.button(_('Download'), () => page.download(`powquty-${week}.html`, 'text/html', html), 'action', { disabled: '' });
		let sink = '';
		const sinks = el('span', {});
		const mail = daemon.isReadonly() ? null : el('span', { 'class': 'sn-bar' }, sinks, page.button(_('Send now'), () => send(sink || undefined, week).then(
			({ delivered, answer, subject }) => daemon.say(_('Weekly report'), subject, delivered === undefined
				? _('Handed over to all sinks that take summaries.') : page.badge(delivered ? 'ok' : 'bad', `${delivered ? _('delivered') : _('not delivered')}: ${answer}`)),
			(error) => daemon.say(_('Weekly report'), _('Not sent: %s').format(error.message))), 'apply'));
		powquty.calls.status().then(({ alerts }) => {
			const known = Object.keys(powquty.SINKS).filter((name) => alerts?.[name]);
			fill(sinks, page.choice(_('Receiver'), [['', _('all receivers')], ...known.map((name) => [name, powquty.SINKS[name]])], '', (value) => sink = value));
		}).catch(() => {});

		return page.frame(_('Weekly report'), banner.node,
			el('div', { 'class': 'sn-bar' }, el('label', {}, _('Week'), choose), save, mail), verdict, paper);
	},
});
