// SPDX-License-Identifier: Apache-2.0
//! What a check is.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::probe::http::Expect;
use crate::probe::url::{Host, Url};
use crate::verdict::{Families, Family};

/// One check of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Its section's name, or the host as it stands in `hosts`.
    pub name: String,
    /// What is done.
    pub kind: Kind,
    /// Logical interface (or device) it is bound to.
    pub interface: Option<String>,
    /// Families it is made in; `None`: those of the rule.
    pub families: Option<Families>,
    /// Time it has, name resolution included.
    pub timeout: Duration,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Fetches a URL and looks at the answer.
    Http(Url, Expect),
    /// Asks a resolver (the system's, or this one) for the addresses of a name.
    Dns {
        /// The name.
        name: String,
        /// The resolver and its port; `None`: the interface's or the system's.
        resolver: Option<(IpAddr, u16)>,
    },
    /// Sends an ICMP echo request.
    Icmp(Host),
    /// Opens a TCP connection.
    Tcp(Host, u16),
    /// Looks for a default route.
    Route,
    /// Looks whether the device is up and has a carrier.
    Carrier,
    /// Asks the kernel whether the gateway (or this address) answers ARP or neighbour discovery.
    Neighbour(Option<IpAddr>),
    /// Compares the quality of the best batman-adv gateway (TQ 0–255, or Mbit/s with BATMAN_V) with two limits.
    Batman {
        /// The mesh device, such as `bat0`.
        device: String,
        /// Below is a failure.
        lower: f64,
        /// Above is a success; between the two the last result stays, marked as weak.
        upper: f64,
    },
    /// Runs a program: exit status 0 is a success, 2 a portal, anything else a failure.
    Script(PathBuf),
}

impl Kind {
    /// The word in the configuration.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Http(url, _) if url.scheme == crate::probe::url::Scheme::Https => "https",
            Self::Http(..) => "http",
            Self::Dns { .. } => "dns",
            Self::Icmp(_) => "icmp",
            Self::Tcp(..) => "tcp",
            Self::Route => "route",
            Self::Carrier => "carrier",
            Self::Neighbour(_) => "neighbour",
            Self::Batman { .. } => "batman",
            Self::Script(_) => "script",
        }
    }

    /// The target as it is shown.
    #[must_use]
    pub fn target(&self) -> Option<String> {
        match self {
            Self::Http(url, _) => {
                let scheme = if url.scheme == crate::probe::url::Scheme::Https { "https" } else { "http" };
                Some(format!("{scheme}://{}{}", url.authority(), url.path))
            }
            Self::Dns { name, resolver: None } => Some(name.clone()),
            Self::Dns { name, resolver: Some((address, _)) } => Some(format!("{name} @{address}")),
            Self::Icmp(host) => Some(host.to_string()),
            Self::Tcp(host, port) => Some(format!("{host}:{port}")),
            Self::Neighbour(address) => address.map(|address| address.to_string()),
            Self::Batman { device, .. } => Some(device.clone()),
            Self::Script(path) => Some(path.display().to_string()),
            Self::Route | Self::Carrier => None,
        }
    }

    /// The host that has to be reached, where there is one.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        match self {
            Self::Http(url, _) => Some(&url.host),
            Self::Icmp(host) | Self::Tcp(host, _) => Some(host),
            _ => None,
        }
    }

    fn has_families(&self) -> bool {
        !matches!(self, Self::Carrier | Self::Batman { .. } | Self::Script(_))
    }

    /// The only family an address allows.
    fn fixed_family(&self) -> Option<Family> {
        let address = match self {
            Self::Dns { .. } | Self::Neighbour(None) => None,
            Self::Neighbour(Some(address)) => Some(*address),
            kind => match kind.host()? {
                Host::Address(address) => Some(*address),
                Host::Name(_) => None,
            },
        };
        address.map(|address| if address.is_ipv4() { Family::V4 } else { Family::V6 })
    }
}

impl Check {
    /// The lanes it is made in for a rule that wants `families`; one without a family for checks that know none.
    #[must_use]
    pub fn lanes(&self, families: Families) -> Vec<Option<Family>> {
        if !self.kind.has_families() {
            return vec![None];
        }
        let families = self.families.unwrap_or(families);
        Family::ALL
            .into_iter()
            .filter(|family| families.wants(*family))
            .filter(|family| self.kind.fixed_family().is_none_or(|fixed| fixed == *family))
            .map(Some)
            .collect()
    }
}
