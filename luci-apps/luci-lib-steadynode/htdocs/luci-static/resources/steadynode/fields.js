// SPDX-License-Identifier: Apache-2.0
// Fields of the settings pages: what a value may be, and the alert options that all daemons have.
'use strict';
'require baseclass';
'require form';
'require uci';
'require steadynode.page as page';
'require steadynode.daemon as daemon';

const UNITS = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 };

/** A validator for LuCI: an empty field is the default, anything else has to pass `check`. */
const given = (check) => (_section, value) => {
	const text = String(value ?? '').trim();
	return text === '' ? true : check(text);
};

const isDigits = (text) => text !== '' && [...text].every((digit) => digit >= '0' && digit <= '9');

/** Seconds of `250ms`, `5s`, `10m`, `2h`, `7d` or a bare number; null when it is none. */
const secondsOf = (text) => {
	const unit = ['ms', 's', 'm', 'h', 'd'].find((name) => text.endsWith(name) && isDigits(text.slice(-name.length - 1, -name.length)));
	const figure = unit ? text.slice(0, -unit.length) : text;
	const [whole, fraction, more] = figure.split('.');
	if (!isDigits(whole) || more !== undefined || (fraction !== undefined && !isDigits(fraction)))
		return null;
	return Number(figure) * UNITS[unit ?? 's'];
};

/** A whole text as a plain number; null when it is none. */
const numberOf = (text) => {
	const [sign, rest] = (text.startsWith('-') || text.startsWith('+')) ? [text.charAt(0), text.slice(1)] : ['', text];
	const [mantissa, exponent] = rest.toLowerCase().split('e');
	const [whole, fraction, more] = mantissa.split('.');
	const plain = (isDigits(whole) || (whole === '' && fraction !== undefined)) && more === undefined && (fraction === undefined || isDigits(fraction))
		&& (exponent === undefined || isDigits(exponent.startsWith('-') ? exponent.slice(1) : exponent));
	return plain ? Number(sign + rest) : null;
};

const number = (low, high) => given((text) => {
	const value = numberOf(text);
	return (value !== null && value >= low && value <= high) || _('Expected: a number from %s to %s').format(String(low), String(high));
});

const integer = (low, high) => given((text) =>
	(isDigits(text) && Number(text) >= low && Number(text) <= high) || _('Expected: a whole number from %s to %s').format(String(low), String(high)));

const duration = (low, high) => given((text) => {
	const seconds = secondsOf(text);
	return (seconds !== null && seconds >= secondsOf(low) && seconds <= secondsOf(high))
		|| _('Expected: a time from %s to %s, such as 500ms, 5s, 10m, 2h or 7d').format(low, high);
});

const path = given((text) => text.startsWith('/') || _('Expected: an absolute path, starting with /'));

const topic = given((text) => (text.length <= 1024 && !text.includes('+') && !text.includes('#'))
	|| _('Expected: a topic to publish to, without + and #'));

const webhook = given((text) => (['https://', 'http://'].some((scheme) => text.startsWith(scheme) && text.length > scheme.length) && !text.includes(' '))
	|| _('Expected: the address of an incoming webhook, https://…'));

const address = given((text) => {
	const at = text.lastIndexOf('@');
	return (at > 0 && at < text.length - 1 && ![' ', ',', ';', '<', '>', '"'].some((sign) => text.includes(sign)))
		|| _('Expected: an address such as name@example.org');
});

const quietHours = given((text) => {
	const minutes = text.split('-').map((clock) => {
		const [hour, minute, more] = clock.trim().split(':');
		const fits = more === undefined && [hour, minute].every((part) => part !== undefined && part.length <= 2 && isDigits(part));
		return (fits && Number(hour) < 24 && Number(minute) < 60) ? 60 * Number(hour) + Number(minute) : null;
	});
	return (minutes.length === 2 && !minutes.includes(null) && minutes[0] !== minutes[1])
		|| _('Expected: two times of day such as 22:00-06:00');
});

/** Adds an option; `more` may hold `choices` (pairs), `when` (what it depends on) and properties of the option. */
const put = (section, tab, kind, name, title, help, more) => {
	const option = tab ? section.taboption(tab, kind, name, title, help) : section.option(kind, name, title, help);
	const { choices, when, ...properties } = more ?? {};
	for (const [value, label] of choices ?? [])
		option.value(value, label);
	if (when) {
		option.depends(when);
		// What is not shown for now is not thrown away.
		option.retain = true;
	}
	Object.assign(option, properties);
	if (kind === form.ListValue)
		// In a table the words rather than the value.
		option.textvalue = function(section_id) {
			const value = this.cfgvalue(section_id) ?? this.default ?? '';
			const [, label] = (choices ?? []).find(([key]) => key === value) ?? [null, value];
			return page.el('span', {}, label);
		};
	if (kind === form.ListValue && option.default) {
		// A choice always has a value; what was not set and is the default need not be written.
		const write = option.write;
		option.write = function(section_id, value) {
			if (value !== this.default || (uci.get(this.map.config, section_id, name) ?? null) !== null)
				return write.call(this, section_id, value);
		};
	}
	return option;
};

const SINK_OPTIONS = {
	slack: ['slack_notify', 'slack_min_severity', 'slack_kinds'],
	mqtt: ['mqtt_notify', 'mqtt_min_severity', 'mqtt_kinds'],
	email: ['email_notify', 'email_min_severity', 'email_kinds'],
	exec: ['exec_notify', 'exec_min_severity', 'exec_kinds'],
};

const switchChoices = () => [['', _('when it is set up')], ['1', _('on')], ['0', _('off')]];

return baseclass.extend({
	put, given, number, integer, duration, path,

	/** The page of a map, below what its daemon says about the configuration. */
	settings: (map, status, banner) => {
		const problems = page.el('div', {});
		map.readonly = daemon.isReadonly() || null;
		daemon.watch(5, () => status().then(({ configuration }) => page.show(problems, daemon.problems(configuration))), banner);
		return map.render().then((node) => page.frame(null, banner.node, problems, node));
	},

	/** The section of a daemon's globals, with tabs for its own options (`general`) and for the alerts. */
	globals: (map) => {
		const section = map.section(form.NamedSection, 'globals', 'globals', _('General'));
		section.addremove = false;
		section.tab('general', _('General'));
		section.tab('mqtt', 'MQTT', _('Alerts to a broker.'));
		section.tab('slack', 'Slack');
		section.tab('email', _('Email'));
		section.tab('alerts', _('Alerts'), _('What holds for all alerts, and a program of your own.'));
		return section;
	},

	/**
	 * The options that every daemon has for its alerts, on the tabs `alerts`, `slack`, `mqtt` and `email`. `test` sends a
	 * test alert to a sink, `kinds` are those of the daemon's alerts, `telemetry` adds what else it does with the broker.
	 */
	alerts: (section, { test, kinds, telemetry }) => {
		const sink = (tab, name) => {
			const [notify, severity, wanted] = SINK_OPTIONS[name];
			put(section, tab, form.ListValue, notify, _('What is sent'), _('Single events, the weekly summary, or both.'), {
				default: 'both', choices: [['both', _('events and summary')], ['events', _('events')], ['summary', _('summary')]],
			});
			put(section, tab, form.ListValue, severity, _('Least severity'), _('Less important alerts are not sent here.'), {
				default: 'info', choices: [['info', _('everything')], ['warning', _('warnings and worse')], ['critical', _('critical ones')]],
			});
			put(section, tab, form.DynamicList, wanted, _('Kinds'), _('Only alerts of these kinds; all when the list is empty.'), { choices: kinds.map((kind) => [kind, kind]) });
			put(section, tab, form.Button, `_test_${name}`, _('Test'), _('Sends a test alert with what is saved and applied, and shows the receiver’s answer.'), {
				inputtitle: _('Send test'), inputstyle: 'action',
				onclick: () => test(name).then(
					({ delivered, answer }) => daemon.say(_('Test alert: %s').format(name), page.badge(delivered ? 'ok' : 'bad', delivered ? _('delivered') : _('not delivered')), answer),
					(error) => daemon.say(_('Test alert: %s').format(name), error.message)),
			});
		};

		put(section, 'slack', form.ListValue, 'slack_notification', _('Slack'), _('Alerts to a Slack channel (needs a package with TLS).'), { choices: switchChoices() });
		put(section, 'slack', form.Value, 'slack_webhook', _('Webhook'), _('Address of the incoming webhook. It is the password: keep it secret.'), { password: true, validate: webhook });
		put(section, 'slack', form.Value, 'slack_channel', _('Channel'), _('Where the webhook allows a choice.'), { placeholder: '#general' });
		put(section, 'slack', form.Value, 'slack_user', _('User'), _('Name under which it is posted.'), {});
		sink('slack', 'slack');

		put(section, 'mqtt', form.Value, 'mqtt_host', _('Broker'), _('Host name or address.'), { datatype: 'host' });
		put(section, 'mqtt', form.Value, 'mqtt_port', _('Port'), _('Default 1883, with TLS 8883.'), { datatype: 'port', placeholder: '1883' });
		put(section, 'mqtt', form.ListValue, 'mqtt_version', _('Protocol'), _('Version of MQTT.'), { default: '3.1.1', choices: [['3.1.1', '3.1.1'], ['5', '5']] });
		put(section, 'mqtt', form.Value, 'mqtt_uname', _('User name'), _('Empty: no login.'), {});
		put(section, 'mqtt', form.Value, 'mqtt_pw', _('Password'), _('Of the user at the broker.'), { password: true });
		put(section, 'mqtt', form.Flag, 'mqtt_tls', _('TLS'), _('Encrypts the connection to the broker (needs a package with TLS).'), {});
		put(section, 'mqtt', form.Value, 'mqtt_ca', _('Certificate authority'), _('PEM file to trust instead of the system’s.'), { validate: path, when: { mqtt_tls: '1' } });
		put(section, 'mqtt', form.Value, 'mqtt_cert', _('Own certificate'), _('PEM file, where the broker wants one.'), { validate: path, when: { mqtt_tls: '1' } });
		put(section, 'mqtt', form.Value, 'mqtt_key', _('Key of the certificate'), _('PEM file.'), { validate: path, when: { mqtt_tls: '1' } });
		put(section, 'mqtt', form.Value, 'mqtt_topic', _('Topic'), _('Of the measurements; alerts go to the same with /event unless they have one of their own.'), { validate: topic });
		telemetry?.(section);
		put(section, 'mqtt', form.ListValue, 'mqtt_event_flag', _('Alerts over MQTT'), _('Events as JSON, kept until the broker has acknowledged them.'), { choices: switchChoices() });
		put(section, 'mqtt', form.Value, 'mqtt_event_host', _('Broker for alerts'), _('If it is another one.'), { datatype: 'host' });
		put(section, 'mqtt', form.Value, 'mqtt_event_port', _('Port for alerts'), _('Default: as above.'), { datatype: 'port' });
		put(section, 'mqtt', form.Value, 'mqtt_event_topic', _('Topic for alerts'), _('Default: the topic above with /event.'), { validate: topic });
		sink('mqtt', 'mqtt');

		put(section, 'email', form.ListValue, 'email_notification', _('Email'), _('Alerts by mail (needs a package with TLS).'), { choices: switchChoices() });
		put(section, 'email', form.Value, 'email_host', _('Mail server'), _('Submission server of your provider.'), { datatype: 'host' });
		put(section, 'email', form.ListValue, 'email_security', _('Encryption'), _('STARTTLS on port 587 or TLS from the first byte on port 465.'), {
			default: 'starttls', choices: [['starttls', 'STARTTLS'], ['tls', 'TLS'], ['none', _('none: the password travels in the clear')]],
		});
		put(section, 'email', form.Value, 'email_port', _('Port'), _('Default 587, with TLS 465.'), { datatype: 'port', placeholder: '587' });
		put(section, 'email', form.Value, 'email_user', _('User name'), _('Empty: no login.'), {});
		put(section, 'email', form.Value, 'email_password', _('Password'), _('Of the user at the mail server.'), { password: true });
		put(section, 'email', form.Value, 'email_from', _('Sender'), _('Default: the user name, if it is an address.'), { validate: address });
		put(section, 'email', form.DynamicList, 'email_to', _('Receivers'), _('One or more addresses.'), { validate: address });
		sink('email', 'email');

		put(section, 'alerts', form.Value, 'quiet_hours', _('Quiet hours'), _('People are left in peace between these hours; what happens is told afterwards. MQTT goes on.'), { placeholder: '22:00-06:00', validate: quietHours });
		put(section, 'alerts', form.Value, 'alert_window', _('Collecting time'), _('Alerts of one kind within this time come as one message.'), { placeholder: '10m', validate: duration('0s', '1d') });
		put(section, 'alerts', form.Value, 'alert_rate', _('Messages per hour'), _('More are held back and told as a digest; 0: no limit.'), { placeholder: '60', validate: integer(0, 10000) });
		put(section, 'alerts', form.Value, 'alert_expiry', _('Keep for'), _('What cannot be delivered is tried again for so long.'), { placeholder: '7d', validate: duration('1m', '60d') });
		put(section, 'alerts', form.Value, 'outbox_path', _('Outbox'), _('File in which alerts wait; on flash or USB they outlive a loss of power. Default: in memory.'), { validate: path });
		put(section, 'alerts', form.Value, 'outbox_size_kb', _('Size of the outbox (KiB)'), _('The oldest unimportant alerts go first when it is full.'), { placeholder: '256', validate: integer(16, 65536) });
		put(section, 'alerts', form.Flag, 'tls_verify', _('Verify certificates'), _('Off: anyone on the way can read and change the alerts.'), { default: '1' });
		put(section, 'alerts', form.ListValue, 'summary_day', _('Day of the summary'), _('When the weekly summary is due, local time.'), {
			default: 'monday', choices: [
				['monday', _('Monday')], ['tuesday', _('Tuesday')], ['wednesday', _('Wednesday')], ['thursday', _('Thursday')],
				['friday', _('Friday')], ['saturday', _('Saturday')], ['sunday', _('Sunday')],
			],
		});
		put(section, 'alerts', form.Value, 'summary_hour', _('Hour of the summary'), _('0 to 23.'), { placeholder: '6', validate: integer(0, 23) });
		put(section, 'alerts', form.ListValue, 'exec_notification', _('Program'), _('A program of yours gets each alert as JSON on its standard input.'), { choices: switchChoices() });
		put(section, 'alerts', form.Value, 'exec_command', _('Command'), _('Absolute path and arguments; it runs with the rights of the daemon.'), { placeholder: '/usr/lib/on-event', validate: path });
		sink('alerts', 'exec');
	},
});
