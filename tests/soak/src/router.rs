// SPDX-License-Identifier: Apache-2.0
//! r1 of the test bed with all three daemons, and what they need around them.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use lab::broker::{Subscriber, PASSWORD, USER};
use lab::{Broker, Daemon, Environment, FaultyLink, HostapdDouble, UbusdDouble};

use crate::bed::{self, client_config, echo, Bed, Service, HOST2, KEY};
use crate::netifd_double::NetifdDouble;

const WIRELESS: &str = include_str!("../../dynapoint/two_access_points.uci");

/// Seconds from one dip of the emulated grid to the next.
pub const DIP_EVERY: u64 = 20;

/// Most faults of one device come once per round of the script.
const SCRIPT: &str = "noise 0.1
harmonic 5 3
repeat 20s
at 5s dip 50 for 100ms
at 8s fault torn
at 9s fault garbage 40
at 10s fault duplicate
at 11s fault skip 3
at 12s fault stall for 500ms
at 14s fault reset
at 16s fault hangup for 1s
";

/// The router, its daemons and its world.
pub struct Router {
    // Dropped in this order: daemons before what they speak to.
    pub powqutyd: Daemon,
    pub dynapoint: Daemon,
    pub client: Daemon,
    pub server: Daemon,
    _emulator: Daemon,
    pub hostapd: HostapdDouble,
    _netifd: NetifdDouble,
    _ubusd: UbusdDouble,
    pub broker: Broker,
    pub subscriber: Subscriber,
    /// From the router to the broker.
    pub to_broker: FaultyLink,
    echo: Service,
    _web: Service,
    pub bed: Bed,
    powquty: Environment,
    dyna: Environment,
}

/// From host1 to a service of host2.
pub struct Way {
    namespace: PathBuf,
    target: SocketAddr,
}

impl Way {
    /// A new connection.
    pub fn connect(&self) -> std::io::Result<TcpStream> {
        let file = fs::File::open(&self.namespace)?;
        enter(&file);
        let stream = TcpStream::connect_timeout(&self.target, Duration::from_secs(30))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        Ok(stream)
    }
}

/// The calling thread belongs to the namespace from now on.
fn enter(file: &fs::File) {
    use std::os::fd::AsFd as _;
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(file.as_fd(), kind).expect("setns, needs root");
}

impl Router {
    /// Starts everything and waits until all of it works.
    pub fn start() -> Self {
        let bed = Bed::new();
        bed.shape(50);
        let broker = Broker::start();
        let subscriber = broker.subscribe("soak/+/event");
        let to_broker = FaultyLink::from_namespace(&bed.r1, IpAddr::V4(Ipv4Addr::LOCALHOST), broker.port());
        let ubusd = UbusdDouble::start();
        let netifd = NetifdDouble::start(ubusd.path());
        let powquty = Environment::new();
        let dyna = Environment::new().with_ubus(ubusd.path());
        let devices = [("ap0", "freifunk"), ("ap1", "maintenance")];
        let hostapd = HostapdDouble::start(&bed.r1, &dyna.run_dir(), &devices);
        netifd.set_access_points(&[("public", "ap0"), ("maintenance", "ap1")]);
        let web = bed.serve_at(&format!("{HOST2}:80"), page);
        let echo = bed.serve(echo);

        let script = powquty.data("script");
        fs::write(&script, SCRIPT).expect("the script");
        let mut emulate = Command::new(lab::binary("powqutyd"));
        emulate.arg("emulate").arg("--pty").arg(powquty.data("WeSense0")).arg("--script").arg(script);
        let emulator = Daemon::start(emulate, "emulate", powquty.data("none"));
        emulator.wait_for_log("linked from");

        let info = ["--log-level", "info"];
        let user =
            format!("config server 'vps'\nconfig user 'r1'\n\toption server 'vps'\n\toption key '{KEY}'\n");
        bed.env2.write_config("mptcp-proxy", &user);
        let server = bed.r2.enter(|| bed.env2.spawn_with("mptcp-proxy", info));
        server.wait_until_ready();
        let port = to_broker.port();
        for (name, environment) in [("powquty", &powquty), ("dynapoint", &dyna), ("mptcp-proxy", &bed.env1)] {
            hook(environment);
            environment.write_config(name, &configuration(name, environment, port, false));
        }
        dyna.write_config("wireless", WIRELESS);
        let start = |environment: &Environment, name: &str| {
            let daemon = bed.r1.enter(|| environment.spawn_with(name, info));
            daemon.wait_until_ready();
            daemon
        };
        let client = start(&bed.env1, "mptcp-proxy");
        let powqutyd = start(&powquty, "powqutyd");
        // It reads carriers below /sys, which `ip netns exec` lays anew.
        let inner = dyna.command("dynapoint", info);
        let mut command = bed.r1.command(&inner.get_program().to_string_lossy());
        command.args(inner.get_args());
        let dynapoint = Daemon::start(command, "dynapoint", dyna.socket("dynapoint"));
        dynapoint.wait_until_ready();
        powqutyd.wait_for_status("samples", |status| status["source"]["state"] == "running");
        dynapoint.wait_for_status("online", |status| status["rules"][0]["state"] == "online");
        client.wait_for_status("both paths", |status| {
            (0..2).all(|path| status["paths"][path]["state"] == "up")
        });
        Self {
            powqutyd,
            dynapoint,
            client,
            server,
            _emulator: emulator,
            hostapd,
            _netifd: netifd,
            _ubusd: ubusd,
            broker,
            subscriber,
            to_broker,
            echo,
            _web: web,
            bed,
            powquty,
            dyna,
        }
    }

    /// The daemons with their names.
    pub fn daemons(&self) -> [(&'static str, &Daemon); 4] {
        [
            ("powqutyd", &self.powqutyd),
            ("dynapoint", &self.dynapoint),
            ("mptcp-proxy client", &self.client),
            ("mptcp-proxy server", &self.server),
        ]
    }

    /// The daemons that have alerts to tell, with their UCI packages and directories.
    pub fn telling(&self) -> [(&'static str, &Daemon, &Environment); 3] {
        [
            ("powquty", &self.powqutyd, &self.powquty),
            ("dynapoint", &self.dynapoint, &self.dyna),
            ("mptcp-proxy", &self.client, &self.bed.env1),
        ]
    }

    /// Service socket of powqutyd.
    pub fn powqutyd_socket(&self) -> PathBuf {
        self.powquty.socket("powqutyd")
    }

    /// Service socket of dynapoint.
    pub fn dynapoint_socket(&self) -> PathBuf {
        self.dyna.socket("dynapoint")
    }

    /// Service socket of the proxy's client half.
    pub fn client_socket(&self) -> PathBuf {
        self.bed.env1.socket("mptcp-proxy")
    }

    /// From a LAN host through the tunnel to a service that sends everything back.
    pub fn way(&self) -> Way {
        Way { namespace: self.bed.host1.path(), target: self.echo.address }
    }

    /// Writes the configuration of a daemon as it is or in its other form, and lets it be read.
    pub fn reload(&self, place: usize, other: bool) {
        let (name, daemon, environment) = self.telling()[place];
        environment.write_config(name, &configuration(name, environment, self.to_broker.port(), other));
        daemon.reload();
    }

    /// A configuration with a mistake in it.
    pub fn reload_mistaken(&self, place: usize) {
        let (name, daemon, environment) = self.telling()[place];
        let text = configuration(name, environment, self.to_broker.port(), false);
        environment.write_config(name, &text.replace("option mqtt_port '", "option mqtt_port '9"));
        daemon.reload();
    }
}

/// Where the alerts of a daemon's exec sink are written, one per line.
pub fn record(environment: &Environment) -> PathBuf {
    environment.data("alerts")
}

fn hook(environment: &Environment) {
    let program = environment.data("hook");
    fs::write(&program, format!("#!/bin/sh\ncat >> '{}'\n", record(environment).display()))
        .expect("the hook");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("the hook");
}

/// The configuration of a daemon; the other form differs in a harmless option.
fn configuration(name: &str, environment: &Environment, broker: u16, other: bool) -> String {
    let data = |file: &str| environment.data(file).display().to_string();
    let password = PASSWORD.replace('\'', "'\\''");
    let alerts = format!(
        "\toption mqtt_host '127.0.0.1'\n\toption mqtt_port '{broker}'\n\toption mqtt_topic 'soak/{name}'\n\
         \toption mqtt_uname '{USER}'\n\toption mqtt_pw '{password}'\n\toption mqtt_event_flag '1'\n\
         \toption exec_command '{}'\n\toption outbox_path '{}'\n\toption outbox_size_kb '4096'\n\
         \toption alert_window '0'\n\toption alert_rate '0'\n",
        data("hook"),
        data("outbox"),
    );
    match name {
        "powquty" => format!(
            "config powquty 'powquty'\n\toption device_tty '{}'\n\toption powquty_path '{}'\n\
             \toption powquty_event_path '{}'\n\toption record_path '{}'\n\toption send_t5060_data '1'\n\
             \toption mqtt_interval '{}'\n{alerts}",
            data("WeSense0"),
            data("powquty.log"),
            data("events.log"),
            data("powquty.rec"),
            if other { 2 } else { 1 },
        ),
        "dynapoint" => format!(
            "config globals 'globals'\n{alerts}\nconfig rule 'internet'\n\tlist hosts 'http://{HOST2}/'\n\
             \toption interval '2'\n\toption timeout '2'\n\toption retry_interval '1'\n\
             \toption offline_threshold '3'\n\toption jitter '{}'\n",
            if other { 11 } else { 10 },
        ),
        _ => {
            let timeout = if other { "3h" } else { "2h" };
            let client = format!("\toption fallback 'block'\n\toption idle_timeout '{timeout}'\n");
            format!("config globals 'globals'\n{alerts}\n{}", client_config(&client, ""))
        }
    }
}

/// An answer that satisfies a check.
fn page(mut stream: TcpStream) {
    let (mut request, mut piece) = (Vec::new(), [0; 512]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(length) if length > 0 => request.extend_from_slice(&piece[..length]),
            _ => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

pub use bed::{exchange, noise};
