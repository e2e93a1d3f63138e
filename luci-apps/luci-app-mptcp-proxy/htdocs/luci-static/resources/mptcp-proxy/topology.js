// SPDX-License-Identifier: Apache-2.0
// The picture of the way: LAN, paths, servers, Internet. Boxes are text, the lines between them are drawn behind.
'use strict';
'require baseclass';
'require mptcp-proxy.common as proxy';
'require steadynode.page as page';
'require steadynode.charts as charts';

const { el, fill } = page;

/** Below this width (px) the boxes stand in one column, tied to a rail at their left. */
const NARROW = 900;

const box = (name, ...children) => el('div', { 'class': 'sn-card sn-node', 'data-node': name }, children);

const pathBox = (path, rates) => box(`path ${path.name}`,
	el('div', { 'class': 'sn-bar' }, el('strong', {}, path.name), proxy.badge(path.state)),
	el('div', {}, [path.device, path.address].filter(Boolean).join(' · ') || '–'),
	path.state === 'up' ? null : el('div', {}, path.reason),
	el('div', { 'data-rate': path.name }, `↓ ${page.rate(rates?.rx)}  ↑ ${page.rate(rates?.tx)}`),
	el('div', {}, _('RTT %s, loss %s').format(proxy.milliseconds(path.rtt), page.quantity(typeof path.loss === 'number' ? path.loss * 100 : null, 1, '%'))),
	el('div', {}, _('Subflows: %s').format(String(path.subflows)), path.mptcp === false ? ` · ${_('MPTCP is stripped')}` : ''));

const serverBox = (server) => box(`server ${server.name}`,
	el('div', { 'class': 'sn-bar' }, el('strong', {}, server.name), proxy.badge(server.state)),
	el('div', {}, server.address),
	el('div', {}, _('RTT %s, %s ready').format(proxy.milliseconds(server.rtt), String(server.pool))));

/** Thickness of a line by what flows. */
const weight = (rates) => 1.5 + Math.min(6, Math.log10(1 + ((rates?.rx ?? 0) + (rates?.tx ?? 0)) / 1000) * 1.6);

return baseclass.extend({
	create: () => {
		const lines = charts.svg('svg', { 'class': 'sn-links', 'aria-hidden': 'true' });
		const columns = [0, 1, 2, 3].map(() => el('div', { 'class': 'sn-column' }));
		const node = el('div', { 'class': 'sn-topology' }, lines, columns);
		let links = [];

		const draw = () => {
			const frame = node.getBoundingClientRect();
			if (!frame.width)
				return;
			const narrow = frame.width < NARROW;
			node.classList.toggle('sn-narrow', narrow);
			const edge = (part, side) => {
				const place = part.getBoundingClientRect();
				return { x: (side === 'right' ? place.right : place.left) - frame.left, y: (place.top + place.bottom) / 2 - frame.top };
			};
			lines.replaceChildren(...links.map(({ from, to, tone, width }) => {
				const [a, b] = [edge(from, narrow ? 'left' : 'right'), edge(to, 'left')];
				const middle = (a.x + b.x) / 2;
				const path = narrow
					? `M${a.x} ${a.y}H10V${b.y}H${b.x}`
					: `M${a.x} ${a.y}C${middle} ${a.y} ${middle} ${b.y} ${b.x} ${b.y}`;
				return charts.svg('path', { d: path, 'class': `sn-link sn-${tone}`, 'stroke-width': width.toFixed(1) });
			}));
		};
		new ResizeObserver(draw).observe(node);

		return {
			node,
			update: (status, rates) => {
				const lan = box('lan', el('strong', {}, _('LAN')), el('div', {}, _('Connections: %s').format(page.number(status.counters?.connections, 0))));
				const paths = (status.paths ?? []).map((path) => ({ path, part: pathBox(path, rates[path.name]) }));
				const servers = (status.servers ?? []).map((server) => ({ server, part: serverBox(server) }));
				const internet = box('internet', el('strong', {}, _('Internet')));
				const none = (text) => el('div', { 'class': 'sn-node' }, el('em', {}, text));
				fill(columns[0], lan);
				fill(columns[1], paths.length ? paths.map((entry) => entry.part) : none(_('no paths')));
				fill(columns[2], servers.length ? servers.map((entry) => entry.part) : none(_('no server')));
				fill(columns[3], internet);
				// New connections go to the first server that answers.
				const active = servers.find((entry) => entry.server.state === 'up') ?? servers[0];
				links = [];
				for (const { path, part } of paths) {
					const tone = proxy.tone(path.state);
					const width = weight(rates[path.name]);
					links.push({ from: lan, to: part, tone, width });
					if (active)
						links.push({ from: part, to: active.part, tone, width });
				}
				for (const { server, part } of servers)
					links.push({ from: part, to: internet, tone: proxy.tone(server.state), width: 2 });
				draw();
			},
		};
	},
});
