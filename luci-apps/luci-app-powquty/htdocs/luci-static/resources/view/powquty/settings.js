// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require form';
'require rpc';
'require powquty.common as powquty';
'require steadynode.daemon as daemon';
'require steadynode.fields as fields';

const { put, number, integer, duration, path } = fields;

const test = daemon.calls(rpc.declare({ object: 'powquty', method: 'alert_test', params: ['sink'] }));

const TABS = [
	['general', _('General'), _('Who measures, and where.')],
	['grid', _('Grid and limits'), _('The declared supply, and what counts as an event. Thresholds are in percent of the nominal voltage.')],
	['input', _('Oscilloscope'), _('What is measured.')],
	['mqtt', 'MQTT', _('Measurements every second, and alerts, to a broker.')],
	['slack', 'Slack', null],
	['email', _('Email'), null],
	['alerts', _('Alerts'), _('What holds for all alerts, and a program of your own.')],
	['gps', 'GPS', _('A receiver takes the place of the position on the first tab while it has a fix.')],
	['logs', _('Logs'), _('A path below /tmp is memory: when the supply of this router fails, the last minutes are lost. A path on USB or flash keeps them; it is then written in blocks.')],
];

const general = (s) => {
	put(s, 'general', form.Flag, 'enabled', _('Measure'), _('Off: the daemon answers, but measures nothing.'), { default: '1' });
	put(s, 'general', form.Value, 'dev_uuid', _('Device'), _('Name of the device in logs and messages.'), { placeholder: 'BERTUB001' });
	put(s, 'general', form.Value, 'dev_lat', _('Latitude'), _('Degrees, north positive.'), { validate: number(-90, 90) });
	put(s, 'general', form.Value, 'dev_lon', _('Longitude'), _('Degrees, east positive.'), { validate: number(-180, 180) });
	put(s, 'general', form.Value, 'dev_alt', _('Altitude'), _('Metres above sea level.'), { validate: number(-500, 10000) });
	put(s, 'general', form.Value, 'dev_acc', _('Accuracy'), _('Of the position, in metres.'), { validate: number(0, 1e6) });
	put(s, 'general', form.Flag, 'powqutyd_print', _('Print'), _('Writes the MQTT object to standard output as well.'), {});
};

const grid = (s) => {
	put(s, 'grid', form.Value, 'nominal_voltage', _('Nominal voltage (V)'), _('Declared voltage of the supply.'), { placeholder: '230', validate: number(1, 1e6) });
	put(s, 'grid', form.ListValue, 'nominal_frequency', _('Nominal frequency'), _('Of the supply.'), { default: '50', choices: [['50', '50 Hz'], ['60', '60 Hz']] });
	put(s, 'grid', form.ListValue, 'network_type', _('Network'), _('Decides the limits of frequency and voltage.'), {
		default: 'interconnected', choices: [['interconnected', _('interconnected')], ['island', _('island')]],
	});
	put(s, 'grid', form.Value, 'dip_threshold', _('Dip (%)'), _('A dip begins below this voltage.'), { placeholder: '90', validate: number(1, 99.9) });
	put(s, 'grid', form.Value, 'swell_threshold', _('Swell (%)'), _('A swell begins above this voltage.'), { placeholder: '110', validate: number(100.1, 200) });
	put(s, 'grid', form.Value, 'interruption_threshold', _('Interruption (%)'), _('An interruption begins below this voltage.'), { placeholder: '10', validate: number(0.1, 50) });
	put(s, 'grid', form.Value, 'hysteresis', _('Hysteresis (%)'), _('An event ends when the voltage has come back beyond the threshold by this much.'), { placeholder: '2', validate: number(0, 10) });
	put(s, 'grid', form.Value, 'rvc_threshold', _('Rapid voltage change (%)'), _('Smallest step between two steady states that counts.'), { placeholder: '3', validate: number(0.5, 10) });
	put(s, 'grid', form.Value, 'event_time_share', _('Event time (%)'), _('Share of the week that dips, swells and interruptions may last before the light turns red.'), { placeholder: '5', validate: number(0.01, 100) });
	put(s, 'grid', form.Value, 'harmonic_window', _('Window for harmonics'), _('A harmonic is an event when it is above its limit too often within this time.'), { placeholder: '10m', validate: duration('1s', '1d') });
	put(s, 'grid', form.Value, 'harmonic_share', _('Share for harmonics (%)'), _('How often that is.'), { placeholder: '5', validate: number(0, 100) });
	put(s, 'grid', form.Value, 'signalling_frequency', _('Mains signalling (Hz)'), _('Frequency of ripple control signals to be measured; empty: not measured.'), { placeholder: '216.67', validate: number(100, 3000) });
	put(s, 'grid', form.ListValue, 'flicker_lamp', _('Lamp of the flickermeter'), _('The lamp to which flicker is related.'), {
		choices: [['', _('by the nominal voltage')], ['230', '230 V'], ['120', '120 V']],
	});
};

const input = (s) => {
	put(s, 'input', form.ListValue, 'input', _('Source'), _('Where the samples come from.'), {
		default: 'wesense', choices: ['wesense', 'file', 'stdin', 'simulator', 'command'].map((name) => [name, powquty.INPUTS[name]]),
	});
	put(s, 'input', form.Value, 'device_tty', _('Serial device'), _('Of the oscilloscope.'), { placeholder: '/dev/WeSense0', validate: path, when: { input: 'wesense' } });
	put(s, 'input', form.Value, 'input_path', _('Recording'), _('File to read.'), { placeholder: '/mnt/usb/recording.f32', validate: path, when: { input: 'file' } });
	put(s, 'input', form.Value, 'input_speed', _('Speed'), _('realtime, max, or how many times real time.'), {
		placeholder: 'realtime', when: { input: 'file' },
		validate: fields.given((text) => ['realtime', 'max'].includes(text) || number(0.01, 1000)(null, text)),
	});
	put(s, 'input', form.Value, 'input_command', _('Command'), _('Program that writes samples to its standard output.'), { placeholder: 'arecord -q -t raw -f S16_LE -r 10240 -c 1', when: { input: 'command' } });
	put(s, 'input', form.Value, 'simulator_script', _('What happens on the grid'), _('File with one line each, such as: at 5s dip 40 for 120ms'), { placeholder: '/etc/powquty.grid', validate: path, when: { input: 'simulator' } });
	put(s, 'input', form.ListValue, 'input_format', _('Format'), _('Of the samples of a recording, standard input or a program.'), {
		choices: [['', _('by the file name')], ['s16le', _('16-bit integers')], ['f32le', _('32-bit floats')], ['csv', 'CSV']],
	});
	put(s, 'input', form.Value, 'input_rate', _('Sampling rate (Hz)'), _('Samples per second; the oscilloscope’s is fixed.'), { placeholder: '10240', validate: number(1000, 100000) });
	put(s, 'input', form.Value, 'input_scale', _('Scale (V)'), _('Volts per step: volts = (raw − offset) × scale.'), {
		placeholder: '1', validate: fields.given((text) => Number(text) !== 0 ? number(-1e6, 1e6)(null, text) : _('With 0 all voltages would be 0')),
	});
	put(s, 'input', form.Value, 'input_offset', _('Offset'), _('Raw value at 0 V.'), { placeholder: '0', validate: number(-1e9, 1e9) });
};

const telemetry = (s) => {
	put(s, 'mqtt', form.ListValue, 'mqtt_notification', _('Measurements over MQTT'), _('One JSON object per interval, with the names PowQuty gave them.'), {
		choices: [['', _('when a broker is set')], ['1', _('on')], ['0', _('off')]],
	});
	put(s, 'mqtt', form.Value, 'mqtt_interval', _('Interval'), _('Time between two objects.'), { placeholder: '1s', validate: duration('1s', '1d') });
	put(s, 'mqtt', form.Flag, 'mqtt_retain', _('Retain'), _('The broker keeps the last object for new listeners.'), {});
	put(s, 'mqtt', form.Flag, 'mqtt_homeassistant', _('Home Assistant'), _('Lets Home Assistant find the values by itself.'), {});
	put(s, 'mqtt', form.Flag, 'send_t5060_data', _('Values of a second'), _('Of 50/60 cycles.'), { default: '1' });
	put(s, 'mqtt', form.Flag, 'send_t1012_data', _('Values of 200 ms'), _('Of the last 10/12 cycles.'), {});
	put(s, 'mqtt', form.Flag, 'use_metadata', _('Metadata'), _('Free text in the object.'), {});
	const meta = [
		['meta_comment', _('Comment')], ['meta_id', _('Identification')], ['meta_operator', _('Operator')],
		['meta_phase', _('Phase')], ['meta_reason', _('Reason')], ['meta_type', _('Type')],
	];
	for (const [name, title] of meta)
		put(s, 'mqtt', form.Value, name, title, _('Sent as it is.'), { when: { use_metadata: '1' } });
};

const gps = (s) => {
	put(s, 'gps', form.Value, 'gps_tty', _('Serial device'), _('Of a receiver that speaks NMEA 0183; empty: none.'), { placeholder: '/dev/gps0', validate: path });
	put(s, 'gps', form.ListValue, 'gps_baud', _('Speed (baud)'), _('Of the serial line.'), {
		default: '9600', choices: ['4800', '9600', '19200', '38400', '57600', '115200'].map((baud) => [baud, baud]),
	});
};

const logs = (s) => {
	put(s, 'logs', form.Value, 'powquty_path', _('Measurements'), _('CSV with one line per second.'), { placeholder: '/tmp/powquty.log', validate: path });
	put(s, 'logs', form.Value, 'max_log_size_kb', _('Size (KiB)'), _('Of the measurements’ file and its predecessor together.'), { placeholder: '4096', validate: integer(8, 1048576) });
	put(s, 'logs', form.Value, 'powquty_event_path', _('Events'), _('CSV with one line per event.'), { placeholder: '/tmp/powquty_event.log', validate: path });
	put(s, 'logs', form.Value, 'max_event_log_size_kb', _('Size (KiB)'), _('Of the events’ file and its predecessor together.'), { placeholder: '1024', validate: integer(8, 1048576) });
	put(s, 'logs', form.Flag, 'csv_header', _('Names of the columns'), _('In the first line of both files.'), {});
	put(s, 'logs', form.Value, 'record_path', _('Records'), _('For the weekly verdict: five weeks and more.'), { placeholder: '/tmp/powquty.rec', validate: path });
	put(s, 'logs', form.Value, 'record_size_kb', _('Size (KiB)'), _('Of the records’ file and its predecessor together; five weeks take about 1 MB.'), { placeholder: '3072', validate: integer(256, 65536) });
	put(s, 'logs', form.Value, 'waveform_count', _('Waveforms'), _('Events whose waveform is kept, about 22 kB each, beside the records; 0: none.'), { placeholder: '20', validate: integer(0, 1000) });
	put(s, 'logs', form.Value, 'raw_path', _('Raw recording'), _('File for every sample, 1.8 GB a day, the newest within the size below; empty: none.'), { placeholder: '/mnt/usb/powquty.raw', validate: path });
	put(s, 'logs', form.Value, 'raw_size_kb', _('Size (KiB)'), _('Of the raw recording; the oldest samples are overwritten.'), { placeholder: '102400', validate: integer(64, 16777216) });
	put(s, 'logs', form.ListValue, 'raw_mode', _('What is recorded'), _('Everything, or the time around dips, swells and interruptions.'), {
		default: 'continuous', choices: [['continuous', _('everything')], ['events', _('around events')]],
	});
	put(s, 'logs', form.Value, 'raw_margin', _('Margin'), _('So much before and after each event.'), { placeholder: '2s', validate: duration('0s', '1m'), when: { raw_mode: 'events' } });
};

return view.extend({
	render: () => {
		const map = new form.Map('powquty', _('Power quality'), _('Settings of the power quality monitor. What is saved and applied takes effect without losing a sample.'));
		const section = map.section(form.NamedSection, 'powquty', 'powquty');
		section.addremove = false;
		for (const [name, title, description] of TABS)
			section.tab(name, title, description);
		general(section);
		grid(section);
		input(section);
		fields.alerts(section, { test, telemetry, kinds: ['dip', 'swell', 'interruption', 'harmonic', 'power_loss', 'outage', 'summary'] });
		gps(section);
		logs(section);

		return fields.settings(map, powquty.calls.status, powquty.banner());
	},
});
